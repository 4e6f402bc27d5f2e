"""What of an earlier form of a run still holds, when its recipe, input or versions have changed.

A row of the new plan that the old one had under the same key has the same pixels. Beyond them, the
answer of a stage is kept when the stage has the fingerprint that it had, the row gives it what it
gave, and every stage that it reads from is kept as well. A row whose stages are all kept has ended;
another starts from its stored pixels, and only the stages that changed are asked.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.plan import Plan, Stage
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import FAILED, judged, result_schema
from overpaint.pipeline.storage.store import Storage

RESTORABLE = {c.EDITED_IMAGE.name: c.EDITED_URI.name, c.MASK_IMAGE.name: c.MASK_URI.name}
"""Columns of the stream that can be read again, by the column that says where from."""

_CARRIED = pa.field("carried_stages", pa.list_(pa.string()))
_SETTLED = pa.field("settled_stages", pa.list_(pa.string()))


@dataclass(frozen=True, slots=True)
class Answers:
    """What stages answered for one row before.

    Args:
        stages: the names of those that need not be asked.
        values: what they wrote, and what others that will be asked again should answer, by column.
    """

    stages: frozenset[str]
    values: Mapping[str, Any]

    def of(self, stage: Stage, row: Row) -> Mapping[str, Any] | None:
        """A stage's answer; None where it is to be asked.

        That is so for a stage that is not kept, and for every stage once one that ran again, such
        as a fetch whose source was replaced, came out otherwise than before.
        """
        is_as_before = all(row[name] == value for name, value in self.values.items() if name in row)
        if stage.name not in self.stages or not is_as_before:
            return None
        return {name: self.values.get(name) for name in stage.written}

    def restored(self, storage: Storage, names: Collection[str]) -> "Answers | None":
        """With the pixels of the named columns read; None where an object is gone."""
        try:
            images = {
                name: storage.read(self.values[uri])
                for name, uri in RESTORABLE.items()
                if name in names and self.values.get(uri) is not None
            }
        except FileNotFoundError:
            return None
        return Answers(self.stages, {**self.values, **images})


class Earlier:
    """The rows of a planned run as they stand, found by their keys.

    Args:
        folder: of the run.
        plan: its plan.
        fingerprints: of its stages when it was planned, by their names.
        base_uri: what its relative sources were relative to.
    """

    def __init__(
        self, folder: RunFolder, plan: Plan, fingerprints: Mapping[str, str], base_uri: str
    ) -> None:
        self.plan = plan
        self.fingerprints = fingerprints
        self.base_uri = base_uri
        self._folder = folder
        self._finished = set(folder.parts("manifest"))
        parts = folder.parts("plan")
        keys = [_short(folder.read_part("plan", part, ["key"])["key"]) for part in parts]
        shorts = np.concatenate([np.zeros(0, np.uint64), *keys])
        owners = np.repeat(np.array(parts, np.int64), [len(found) for found in keys])
        order = np.argsort(shorts, kind="stable")
        self._shorts, self._owners = shorts[order], owners[order]

    def rows(self, keys: Any) -> list[dict[str, Any] | None]:
        """For each key its row, planned and ended; None where there is none or it has not ended."""
        wanted = _short(keys)
        places = np.searchsorted(self._shorts, wanted)
        is_there = places < len(self._shorts)
        is_there[is_there] = self._shorts[places[is_there]] == wanted[is_there]
        owners = np.unique(self._owners[places[is_there]])
        found: dict[str, dict[str, Any]] = {}
        for part in owners.tolist():
            found |= self._ended(part, keys)
        return [found.get(key) for key in keys.to_pylist()]

    def _ended(self, part: int, keys: Any) -> dict[str, dict[str, Any]]:
        """The rows of a part that have ended and are asked for, by key."""
        if part in self._finished:
            ended = [self._folder.read_part("manifest", part)]
        else:
            ended = self._folder.read_results(part)
        planned = {row["key"]: row for row in _among(self._folder.read_part("plan", part), keys)}
        rows = [row for table in ended for row in _among(table, keys)]
        return {row["key"]: {**row, **planned[row["key"]]} for row in rows}


def _short(keys: Any) -> NDArray[np.uint64]:
    """64 bits of each key: enough to find its part."""
    return np.array([int(key[:16], 16) for key in keys.to_pylist()], np.uint64)


def _among(table: pa.Table, keys: Any) -> list[dict[str, Any]]:
    return table.filter(pc.is_in(table["key"], keys.combine_chunks())).to_pylist()


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a plan part need not be done again.

    Args:
        ended: the rows that have ended, as results.
        answered: rows of which some stages need not be asked, with those stages' names.
    """

    ended: pa.Table
    answered: pa.Table


def keep(plan: Plan, planned: pa.Table, base_uri: str, earlier: Earlier) -> Kept:
    """Holds the rows of a part of a new plan against an earlier run.

    Args:
        plan: the new one.
        planned: a part of it.
        base_uri: what its relative sources are relative to.
        earlier: the run as it stands.
    """
    ended: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    moved = {c.BASE_URI.name} if base_uri != earlier.base_uri else set[str]()
    settle = _Settling(plan, earlier, moved)
    for row, old in zip(planned.to_pylist(), earlier.rows(planned["key"]), strict=True):
        if old is None or old["status"] == FAILED:
            continue
        settled = settle.stages(row, old)
        if settle.has_ended(settled, old):
            ended.append(settle.ending(settled, old))
        elif old["stage"] is None and settle.has_pixels(settled):
            names = {_CARRIED.name: settle.carried(settled), _SETTLED.name: settled}
            answered.append({**settle.answers(settled, old), **names})
    schema = result_schema(plan)
    return Kept(
        pa.Table.from_pylist(ended, schema),
        pa.Table.from_pylist(answered, schema.append(_CARRIED).append(_SETTLED)),
    )


class _Settling:
    """Which stages of a new plan would answer as those of an earlier one did."""

    def __init__(self, plan: Plan, earlier: Earlier, moved: set[str]) -> None:
        self._plan = plan
        fingerprints = plan.fingerprints()
        known, present = set(earlier.fingerprints.values()), set(fingerprints.values())
        self._same = {stage.name for stage in plan.stages if fingerprints[stage.name] in known}
        names = {fingerprint: name for name, fingerprint in fingerprints.items()}
        self._renamed = {
            name: names.get(fingerprint) for name, fingerprint in earlier.fingerprints.items()
        }
        gone = [s for s in earlier.plan.stages if earlier.fingerprints.get(s.name) not in present]
        self._fresh = moved | {name for stage in gone for name in stage.written}

    def stages(self, row: Row, old: Row) -> list[str]:
        """The names of the stages whose answers hold for a row, in order."""
        fresh = self._fresh | {name for name in row if row[name] != old.get(name)}
        settled: list[str] = []
        for stage in self._plan.stages:
            if stage.name in self._same and not fresh & set(stage.read):
                settled.append(stage.name)
                fresh -= set(stage.written)
            else:
                fresh |= set(stage.written)
        return settled

    def carried(self, settled: Sequence[str]) -> list[str]:
        """The settled stages that need not run: all that others read of them is stored."""
        wanted: set[str] = set()
        carried: list[str] = []
        for stage in reversed(self._plan.stages):
            passed_on = {o.name for o in stage.operator.outputs if o.scope != "manifest"}
            if stage.name in settled and not (passed_on - RESTORABLE.keys()) & wanted:
                carried.insert(0, stage.name)
            else:
                wanted |= set(stage.read)
        return carried

    def has_pixels(self, settled: Sequence[str]) -> bool:
        """Whether all that made the pixels holds."""
        return {stage.name for stage in self._plan.editing_stages()} <= set(settled)

    def has_ended(self, settled: Sequence[str], old: Row) -> bool:
        """Whether all that brought a row to its end holds."""
        names = [stage.name for stage in self._plan.stages]
        if old["stage"] is None:
            return names == settled
        last = self._renamed.get(old["stage"])
        return (
            last is not None and last in settled and set(names[: names.index(last)]) <= set(settled)
        )

    def ending(self, settled: Sequence[str], old: Row) -> dict[str, Any]:
        """A row's result, with the new plan's names and the new policy's word."""
        causes = {column.name: old.get(column.name) for column in (c.ERROR_CODE, c.ERROR_MESSAGE)}
        stage = self._renamed.get(old["stage"]) if old["stage"] else None
        ending = {c.STATUS.name: old["status"], c.STAGE.name: stage, **causes}
        return judged({**self.answers(settled, old), **ending}, self._plan.policy)

    def answers(self, settled: Sequence[str], old: Row) -> dict[str, Any]:
        """The key, and what the settled stages have stored."""
        outputs = [o for s in self._plan.stages if s.name in settled for o in s.operator.outputs]
        stored = [column.name for column in outputs if column.scope == "manifest"]
        return {name: old.get(name) for name in (c.KEY.name, *stored)}


def answers_by_key(plan: Plan, table: pa.Table) -> dict[str, Answers]:
    """The kept answers of a part, by key."""
    written = {stage.name: stage.written for stage in plan.stages}
    found: dict[str, Answers] = {}
    for row in table.to_pylist():
        names = {name for stage in row[_SETTLED.name] for name in written[stage]}
        values = {name: row[name] for name in names if name in row}
        found[row[c.KEY.name]] = Answers(frozenset(row[_CARRIED.name]), values)
    return found


def carried_by_all(kept: pa.Table | None, keys: Collection[str]) -> set[str]:
    """The stages that none of some rows needs, by a part's kept answers."""
    if kept is None:
        return set()
    carried = dict(zip(kept["key"].to_pylist(), kept[_CARRIED.name].to_pylist(), strict=True))
    return set[str].intersection(*(set(carried.get(key, ())) for key in keys))
