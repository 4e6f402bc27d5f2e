"""Reuse of a run's outputs when its recipe, input or versions have changed.

A row of the new plan that the previous version of the run had under the same key has the same
pixels. Beyond them, the output of a stage is reused when the stage has the fingerprint that it had,
the row gives it what it gave, and the outputs of every stage that it reads from are reused as well.
A row whose stages are all reused has ended; another starts from its stored pixels, and only the
stages that changed run again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.columns import Row
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import FAILED, apply_policy, result_schema
from overpaint.pipeline.runs.shards import read_picture, spans_by_address
from overpaint.pipeline.runs.source_versions import Version, read_versions
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

_SKIPPED = pa.field("skipped_stages", pa.list_(pa.string()))
_VALID = pa.field("valid_stages", pa.list_(pa.string()))
_SOURCE_VERSION = "source_version"


@dataclass(frozen=True, slots=True)
class CachedOutputs:
    """Outputs that the stages of a previous version of a run gave for one row.

    Attributes:
        stages: names of the stages that need not run.
        values: outputs of those stages, and of others that run again only to pass on what is not
            stored, by column.
        spans: places of the row's pictures in shards, as `STORED_SPANS` has them.
    """

    stages: frozenset[str]
    values: Mapping[str, Any]
    spans: Sequence[Mapping[str, Any]] = ()

    def of(self, stage: Stage, row: Row) -> Mapping[str, Any] | None:
        """Returns the cached outputs of a stage; None where the stage has to run.

        A stage that is not cached has to run, and so has every stage once one that ran again, such
        as a fetch whose source was replaced, came out otherwise than before.
        """
        is_unchanged = all(row[name] == value for name, value in self.values.items() if name in row)
        if stage.name not in self.stages or not is_unchanged:
            return None
        return {name: self.values.get(name) for name in stage.output_names}

    def restored(self, storage: Storage, stored: Mapping[str, str]) -> "CachedOutputs | None":
        """Adds stored images to the values; returns None where an object is gone.

        Args:
            storage: storage of the run folder.
            stored: column of each image to read, with the column of its path.
        """
        spans = spans_by_address(self.spans)
        paths = {name: self.values.get(uri) for name, uri in stored.items()}
        try:
            images = {
                name: read_picture(storage, path, spans.get(path))
                for name, path in paths.items()
                if path is not None
            }
        except FileNotFoundError:
            return None
        return replace(self, values={**self.values, **images})


class PreviousRun:
    """Rows of a planned run as they stand, by their keys.

    Args:
        folder: run folder.
        plan: plan of the run.
        fingerprints: fingerprints of its stages when it was planned, by their names.
        base_uri: folder or prefix that its relative sources were relative to.
        started_s: time at which the run started, in seconds since the epoch; None where unknown.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        fingerprints: Mapping[str, str],
        base_uri: str,
        started_s: float | None = None,
    ) -> None:
        self.plan = plan
        self.fingerprints = fingerprints
        self.base_uri = base_uri
        self._folder = folder
        self._started_s = started_s
        self._finished = set(folder.parts("manifest"))
        key_hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for part, table in folder.tables(["key"], folder="plan"):
            key_hashes.append(_short(table["key"]))
            owners.append(np.full(table.num_rows, part, np.int64))
        shorts = np.concatenate(key_hashes)
        order = np.argsort(shorts, kind="stable")
        self._shorts, self._owners = shorts[order], np.concatenate(owners)[order]

    @property
    def num_rows(self) -> int:
        """The number of planned rows."""
        return len(self._shorts)

    def num_known(self, keys: Any) -> int:
        """Returns how many of some keys the run has planned.

        Args:
            keys: Arrow column of the keys to look up.
        """
        return int(self._places(keys)[1].sum())

    def is_replaced(self, old: Row, version: Version | None) -> bool:
        """Tells whether the source of a row is another file than when the run was planned.

        Where a run has written down no versions, a file counts that has changed since its start.

        Args:
            old: row of this run.
            version: version of the source now; None where unknown.
        """
        if version is None:
            return False
        then = old.get(_SOURCE_VERSION)
        if then is not None:
            return then != version.word
        if self._started_s is None or version.modified_s is None:
            return False
        return version.modified_s > self._started_s

    def _places(self, keys: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the place of each key among the sorted ones, and whether it is there."""
        wanted = _short(keys)
        places = np.searchsorted(self._shorts, wanted)
        is_there = places < len(self._shorts)
        is_there[is_there] = self._shorts[places[is_there]] == wanted[is_there]
        return places, is_there

    def rows(self, keys: Any) -> list[dict[str, Any] | None]:
        """Returns the row of each key, planned and ended; None for one that is absent or pending.

        Args:
            keys: Arrow column of the keys to look up.
        """
        places, is_there = self._places(keys)
        rows: dict[str, dict[str, Any]] = {}
        for part in np.unique(self._owners[places[is_there]]).tolist():
            rows |= self._ended(part, keys)
        return [rows.get(key) for key in keys.to_pylist()]

    def _ended(self, part: int, keys: Any) -> dict[str, dict[str, Any]]:
        """Returns the rows of a part that have ended and are looked for, by key."""
        if part in self._finished:
            ended = [self._folder.read_part("manifest", part)]
        else:
            ended = self._folder.read_results(part)
        plan_part = self._folder.read_part("plan", part)
        if (versions := read_versions(self._folder, part, plan_part.num_rows)) is not None:
            plan_part = plan_part.append_column(_SOURCE_VERSION, pa.array(versions, pa.string()))
        planned = {row["key"]: row for row in _among(plan_part, keys)}
        rows = [row for table in ended for row in _among(table, keys)]
        return {row["key"]: {**row, **planned[row["key"]]} for row in rows}


def _short(keys: Any) -> NDArray[np.uint64]:
    """Returns 64 bits of each key: enough to find its part."""
    return np.array([int(key[:16], 16) for key in keys.to_pylist()], np.uint64)


def _among(table: pa.Table, keys: Any) -> list[dict[str, Any]]:
    return table.filter(pc.is_in(table["key"], keys.combine_chunks())).to_pylist()


@dataclass(frozen=True, slots=True)
class ReusePlan:
    """Rows of a plan part that are reused, as a whole or in part.

    Attributes:
        ended: rows that have ended, as results.
        cached: rows of which some stages need not run, with the names of those stages.
        num_replaced: rows whose source is another file than before.
    """

    ended: pa.Table
    cached: pa.Table
    num_replaced: int = 0


def plan_reuse(
    plan: Plan,
    planned: pa.Table,
    base_uri: str,
    previous: PreviousRun,
    versions: Sequence[Version | None] | None = None,
) -> ReusePlan:
    """Compares the rows of a part of a new plan with a previous version of the run.

    Args:
        plan: new plan.
        planned: rows of a part of the new plan.
        base_uri: folder or prefix that their relative sources are relative to.
        previous: run as it stands.
        versions: versions of the rows' sources as they are now; None where they are not known.
    """
    ended: list[dict[str, Any]] = []
    cached: list[dict[str, Any]] = []
    num_replaced = 0
    now = versions or [None] * planned.num_rows
    moved = {"base_uri"} if base_uri != previous.base_uri else set[str]()
    analysis = ReuseAnalysis(plan, previous, moved)
    old_rows = previous.rows(planned["key"])
    for row, old, version in zip(planned.to_pylist(), old_rows, now, strict=True):
        is_replaced = old is not None and previous.is_replaced(old, version)
        num_replaced += is_replaced
        if old is None or old["status"] == FAILED:
            continue
        valid = analysis.valid_stages(row, old)
        if analysis.has_ended(valid, old) and not is_replaced:
            ended.append(analysis.ending(valid, old))
        elif old["stage"] is None and analysis.has_pixels(valid, row):
            skipped = analysis.skipped_stages(valid, fetch_again=is_replaced)
            names = {_SKIPPED.name: skipped, _VALID.name: valid}
            cached.append({**analysis.outputs(valid, old), **names})
    schema = result_schema(plan)
    return ReusePlan(
        pa.Table.from_pylist(ended, schema),
        pa.Table.from_pylist(cached, schema.append(_SKIPPED).append(_VALID)),
        num_replaced,
    )


class ReuseAnalysis:
    """Comparison of a new plan with a previous one: which stages would give equal outputs.

    Args:
        plan: new plan.
        previous: run as it stands.
        moved: columns that have another value in every row, such as the base URI.
    """

    def __init__(self, plan: Plan, previous: PreviousRun, moved: set[str]) -> None:
        self._plan = plan
        now, then = plan.fingerprints(), previous.fingerprints
        self._unchanged = {
            name for name, fingerprint in now.items() if fingerprint in then.values()
        }
        names = {fingerprint: name for name, fingerprint in now.items()}
        self._new_names = {name: names.get(fingerprint) for name, fingerprint in then.items()}
        removed = [s for s in previous.plan.stages if then.get(s.name) not in names]
        self._changed = moved | {name for stage in removed for name in stage.output_names}
        self._editing = PerChoice(plan, Plan.editing_stages)
        self._old_editing = PerChoice(previous.plan, Plan.editing_stages)

    def valid_stages(self, row: Row, old: Row) -> list[str]:
        """Names the stages whose previous outputs hold for a row, in order.

        A row that has the key that it had has the editing stages that it had, one for one, though
        they may have given their columns other names.
        """
        changed = self._changed | {name for name in row if row[name] != old.get(name)}
        editing = zip(self._editing.of(row), self._old_editing.of(old), strict=False)
        same = {new.name for new, then in editing if new.output_names == then.output_names}
        unchanged = self._unchanged | same
        valid: list[str] = []
        for stage in self._plan.stages:
            if stage.name in unchanged and not changed & set(stage.read_names):
                valid.append(stage.name)
                changed -= set(stage.output_names)
            else:
                changed |= set(stage.output_names)
        return valid

    def skipped_stages(self, valid: Sequence[str], *, fetch_again: bool = False) -> list[str]:
        """Names the valid stages that need not run: all that others read of them is stored.

        Args:
            valid: names of the stages whose outputs hold.
            fetch_again: whether the source is read in any case, to see if it is the same.
        """
        wanted: set[str] = set()
        skipped: list[str] = []
        stored = self._plan.stored_images().keys()
        for stage in reversed(self._plan.stages):
            passed_on = {o.name for o in stage.outputs if o.scope != "manifest"}
            is_read = fetch_again and stage.operator.kind == "fetch"
            if stage.name in valid and not is_read and not (passed_on - stored) & wanted:
                skipped.insert(0, stage.name)
            else:
                wanted |= set(stage.read_names)
        return skipped

    def has_pixels(self, valid: Sequence[str], row: Row) -> bool:
        """Tells whether every stage that decides a row's pixels is valid."""
        return {stage.name for stage in self._editing.of(row)} <= set(valid)

    def has_ended(self, valid: Sequence[str], old: Row) -> bool:
        """Tells whether every stage that brought a row to its end is valid."""
        names = [stage.name for stage in self._plan.stages]
        if old["stage"] is None:
            return names == valid
        last = self._new_names.get(old["stage"])
        return last is not None and last in valid and set(names[: names.index(last)]) <= set(valid)

    def ending(self, valid: Sequence[str], old: Row) -> dict[str, Any]:
        """Returns a row's result under the new plan's names, with the new policy applied."""
        causes = {column.name: old.get(column.name) for column in (c.ERROR_CODE, c.ERROR_MESSAGE)}
        stage = self._new_names.get(old["stage"]) if old["stage"] else None
        ending = {"status": old["status"], "stage": stage, **causes}
        return apply_policy({**self.outputs(valid, old), **ending}, self._plan.policy)

    def outputs(self, valid: Sequence[str], old: Row) -> dict[str, Any]:
        """Returns the key of a row, and what its valid stages have stored."""
        outputs = [o for s in self._plan.stages if s.name in valid for o in s.outputs]
        stored = [column.name for column in outputs if column.scope == "manifest"]
        added = [column.name for column in self._plan.runner_outputs]
        return {name: old.get(name) for name in ("key", *stored, *added)}


def cached_outputs_by_key(plan: Plan, table: pa.Table) -> dict[str, CachedOutputs]:
    """Returns the cached outputs of a part, by the key of their row."""
    written = {stage.name: stage.output_names for stage in plan.stages}
    outputs: dict[str, CachedOutputs] = {}
    for row in table.to_pylist():
        names = {name for stage in row[_VALID.name] for name in written[stage]}
        values = {name: row[name] for name in names if name in row}
        spans = row.get(c.STORED_SPANS.name) or ()
        outputs[row["key"]] = CachedOutputs(frozenset(row[_SKIPPED.name]), values, spans)
    return outputs


def stages_cached_for_all(cached: pa.Table | None, keys: Collection[str]) -> set[str]:
    """Names the stages that none of some rows needs, by the cached outputs of their part."""
    if cached is None:
        return set()
    skipped = dict(zip(cached["key"].to_pylist(), cached[_SKIPPED.name].to_pylist(), strict=True))
    return set[str].intersection(*(set(skipped.get(key, ())) for key in keys))
