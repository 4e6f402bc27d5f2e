"""Acceptance of a finished run by another policy, from stored scores; nothing is edited."""

import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
from overpaint.jobs.report.report import ManifestSummary, summarise_manifest, write_report
from overpaint.jobs.runs.run import RunResult
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.named_policies import USE, named_policies, with_named_policy
from overpaint.pipeline.runs.folder import SUCCESS, RunFolder
from overpaint.pipeline.runs.lease import acquire_lease
from overpaint.pipeline.runs.manifest import apply_policy_to_part
from overpaint.pipeline.runs.record import RunRecord
from pydantic import ValidationError


def read_policy(file: str) -> Policy:
    """Reads the policy in a TOML file, its `[policy]` table or the whole file; or a named policy.

    Args:
        file: path, or name of a policy that comes with Overpaint.

    Raises:
        UsageError: no such file or policy, not TOML, or not bounds.
    """
    path = Path(file)
    if not path.is_file() and file not in named_policies():
        hint = near_miss(file, named_policies())
        raise UsageError(f"{file}: no such policy file, and none of that name comes along: {hint}")
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text()) if path.is_file() else {USE: file}
        return Policy.model_validate(with_named_policy(tables.get("policy", tables)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(
            f"{file}: not a policy ({reason}); write score = {{ min = 0.2 }}"
        ) from error


def accept(output: str, policy: Policy) -> RunResult:
    """Applies another policy to a finished run: rewrites its manifest, report and counts.

    Args:
        output: run folder.
        policy: bounds on the scores of the run.

    Raises:
        UsageError: there is no run, it is not finished, or has no such score.

    Example:
        >>> accept("demo-run", Policy({"clip_sim_dir": Bounds(min=0.2)})).ledger.accepted
        31
    """
    folder = RunFolder.at(output)
    RunRecord.read(folder)
    with acquire_lease(folder):
        return RunResult.of(folder, _accept(folder, policy))


def _accept(folder: RunFolder, policy: Policy) -> ManifestSummary:
    record = RunRecord.read(folder).with_policy(policy)
    if not folder.is_finished():
        raise UsageError(f"{folder.storage.uri}: the run there is not finished; finish it first")
    record.plan(folder)  # refuses bounds on a score that no stage writes
    for part, table in folder.tables():
        planned = folder.read_part("plan", part).to_pylist()
        rows = apply_policy_to_part(table.to_pylist(), planned, policy)
        folder.write_part("manifest", part, pa.Table.from_pylist(rows, table.schema))
    record.write(folder)
    summary = summarise_manifest(folder)
    success = {**(folder.read_json(SUCCESS) or {}), **summary.ledger.as_json()}
    folder.write_json(SUCCESS, success)
    write_report(folder, summary)
    return summary
