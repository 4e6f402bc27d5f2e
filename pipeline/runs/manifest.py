"""Manifest of a run: every planned row with its results, in the order of the plan.

Rows that ended are committed task by task as results: their key, what the stages stored, and how
they ended. A part of the manifest is written when every row of its plan part has a result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.identity import digest
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.choice import not_chosen
from overpaint.pipeline.runs.folder import RunFolder

ACCEPTED, REJECTED, FAILED = "accepted", "rejected", "failed"
_ENDING = (c.STATUS, c.STAGE, c.ERROR_CODE, c.ERROR_MESSAGE)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts of a run's rows: planned, and ended in each way.

    Attributes:
        planned: rows of the plan.
        accepted: rows that keep every rule of the policy.
        rejected: rows that a stage declined, or that break a rule.
        failed: rows that could not be done.

    Example:
        >>> Ledger(planned=10, accepted=7, failed=1).pending
        2
    """

    planned: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """The number of rows that have ended."""
        return self.accepted + self.rejected + self.failed

    @property
    def pending(self) -> int:
        """The number of rows that have not ended."""
        return self.planned - self.ended

    def plus(self, other: "Ledger") -> "Ledger":
        """Returns both ledgers added up."""
        return Ledger(
            self.planned + other.planned,
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.failed + other.failed,
        )

    def as_json(self) -> dict[str, int]:
        """Returns the counts by name, `pending` included."""
        names = ("planned", ACCEPTED, REJECTED, FAILED, "pending")
        return {name: getattr(self, name) for name in names}


def count(statuses: Iterable[str | None], planned: int = 0) -> Ledger:
    """Counts statuses into a ledger."""
    listed = list(statuses)
    return Ledger(planned, *(listed.count(name) for name in (ACCEPTED, REJECTED, FAILED)))


def result_schema(plan: Plan) -> pa.Schema:
    """Returns the columns of a result file."""
    written = (column for stage in plan.stages for column in stage.outputs)
    stored = [column for column in written if column.scope == "manifest"]
    columns = (c.KEY, *stored, *plan.runner_outputs, *_ENDING)
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def result_name(keys: Sequence[str]) -> str:
    """Returns the name of a task's result file: the same rows have the same name."""
    return digest(sorted(keys), 24)


def manifest_schema(plan: Plan, planned: pa.Schema) -> pa.Schema:
    """Returns the columns of a manifest: fixed ones, the operators', then the input's others."""
    columns = (*c.MANIFEST, *plan.stored_columns())
    fields = [pa.field(column.name, column.type) for column in columns]
    own = {field.name for field in fields}
    rest = [field.with_name(_input_name(field.name)) for field in planned if field.name not in own]
    return pa.schema([*fields, *rest])


def _input_name(name: str) -> str:
    return name if name.startswith("in_") else f"in_{name}"


def assemble(plan: Plan, planned: pa.Table, results: Sequence[pa.Table]) -> pa.Table:
    """Joins the rows of a plan part with their results into rows of the manifest.

    Args:
        plan: plan of the run.
        planned: rows of the plan part.
        results: result tables that together hold each planned key; equal keys hold equal rows.

    Raises:
        KeyError: a planned row has no result.
    """
    ended = {row["key"]: row for table in results for row in table.to_pylist()}
    fingerprints = PerChoice(plan, Plan.fingerprint)
    planned_rows = planned.to_pylist()
    rows = [
        {**row, **ended[row["key"]], "fingerprint": fingerprints.of(row), "reject_reasons": None}
        for row in planned_rows
    ]
    rows = apply_policy_to_part(rows, planned_rows, plan.policy)
    schema = manifest_schema(plan, planned.schema)
    return pa.Table.from_pylist([_renamed(row, schema) for row in rows], schema)


def apply_policy_to_part(
    rows: Sequence[dict[str, Any]], planned: Sequence[Mapping[str, Any]], policy: Policy
) -> list[dict[str, Any]]:
    """Accepts or rejects the rows of a part, which has all tries at its edits.

    Args:
        rows: rows of the manifest.
        planned: the same rows as they were planned.
        policy: bounds, and the choice among tries at one edit.
    """
    judged = [apply_policy(row, policy) for row in rows]
    if policy.best is None:
        return judged
    pairs = list(zip(judged, planned, strict=True))
    pairs = [(row, asked) for row, asked in pairs if row["status"] == ACCEPTED]
    lost = not_chosen([row for row, _ in pairs], [asked for _, asked in pairs], policy.best)
    return [
        {**row, "status": REJECTED, "reject_reasons": [lost[row["key"]]]}
        if row["key"] in lost
        else row
        for row in judged
    ]


def apply_policy(row: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Accepts or rejects a row by the bounds of a policy; one that a stage ended stays so."""
    if row["stage"] is not None:
        return row
    reasons = policy.reasons(row)
    return {**row, "status": REJECTED if reasons else ACCEPTED, "reject_reasons": reasons or None}


def _renamed(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    return {
        name: row[name] if name in row else row.get(name.removeprefix("in_"))
        for name in schema.names
    }


def finish_part(folder: RunFolder, plan: Plan, part: int) -> Ledger:
    """Writes a manifest part whose rows have all ended, and removes their results."""
    table = assemble(plan, folder.read_part("plan", part), folder.read_results(part))
    folder.write_part("manifest", part, table)
    folder.remove_results(part)
    return count(table["status"].to_pylist(), table.num_rows)


def manifest_ledger(folder: RunFolder, parts: Sequence[int]) -> Ledger:
    """Counts the rows of finished parts."""
    total = Ledger()
    for _, table in folder.tables(["status"], parts=parts):
        counts: Any = pc.value_counts(table["status"])
        named = dict(zip(*(counts.field(place).to_pylist() for place in (0, 1)), strict=True))
        numbers = (named.get(name, 0) for name in (ACCEPTED, REJECTED, FAILED))
        total = total.plus(Ledger(table.num_rows, *numbers))
    return total
