"""One actor's work: load a group's models once, then take tasks through its stages.

The first group reads a task's rows from the plan; the last one commits how they ended. Between two
groups rows travel as an Arrow table: encoded images and values, never live objects.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
from overpaint.cluster.worker.attempts import Attempts
from overpaint.cluster.worker.batch import StagesRun, run_stages
from overpaint.cluster.worker.memory import Loaded
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.runs.folder import CACHED
from overpaint.pipeline.runs.manifest import (
    ACCEPTED,
    FAILED,
    apply_policy,
    count,
    result_name,
    result_schema,
)
from overpaint.pipeline.runs.reuse import CachedOutputs, cached_outputs_by_key
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Task

SUMMARY = pa.schema(
    [
        ("part", pa.int32()),
        ("accepted", pa.int32()),
        ("rejected", pa.int32()),
        ("failed", pa.int32()),
        ("trace_json", pa.string()),
    ]
)
"""What the last group tells the driver of each task: counts, and how the stages went (`Trace`)."""

_ENDING = (c.STATUS, c.STAGE, c.ERROR_CODE, c.ERROR_MESSAGE)
_PART = pa.field("part", pa.int32())
_TRACE = pa.field("trace_json", pa.string())


@dataclass(frozen=True, slots=True)
class Trace:
    """How stages went, by stage: seconds taken, and what was done without for lack of memory."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    rungs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def as_json(self) -> str:
        """For the way from group to group, and to the driver."""
        return json.dumps({"seconds": self.seconds, "rungs": self.rungs})

    @classmethod
    def from_json(cls, text: str) -> "Trace":
        """What `as_json` wrote."""
        return cls(**json.loads(text))

    def then(self, other: "Trace") -> "Trace":
        """With the stages of a later group."""
        return Trace({**self.seconds, **other.seconds}, {**self.rungs, **other.rungs})


class _Models(dict[str, Loaded]):
    """The operators of a group, loaded at once; an idle one only if it is asked for after all."""

    def __init__(self, run: Run, group: str) -> None:
        super().__init__()
        self._stages = {stage.name: stage for stage in run.plan.stages_of(group)}
        self._allow_inexact = run.plan.limits.allow_inexact
        for name in self._stages.keys() - run.idle_stages:
            self[name] = self._load(name)

    def __missing__(self, name: str) -> Loaded:
        self[name] = self._load(name)
        return self[name]

    def _load(self, name: str) -> Loaded:
        operator = self._stages[name].operator
        try:
            return Loaded.load(operator, allow_inexact=self._allow_inexact)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            raise StoppedError(f"stage {name!r}: its model cannot be loaded: {reason}") from error


class GroupWorker:
    """The stages of one group with their models.

    Args:
        run: the run it works for.
        group: the name of the group.
    """

    def __init__(self, run: Run, group: str) -> None:
        self._run = run
        self._group = group
        self._stages = run.plan.stages_of(group)
        self._models = _Models(run, group)
        self._part: tuple[int, pa.Table] | None = None
        self._kept: tuple[int, dict[str, CachedOutputs]] | None = None
        timeout_s = run.plan.limits.row_timeout_s
        self._attempts = Attempts(run.folder.storage, group, timeout_s)

    def start(self, task: Task) -> pa.Table:
        """Takes a task of the plan through the group; for the first group."""
        table = self._planned(task.part).take(pa.array(task.rows))
        return self._through(table.to_pylist(), task.part, Trace())

    def proceed(self, table: pa.Table) -> pa.Table:
        """Takes what the group before sent through this one."""
        trace = Trace.from_json(table["trace_json"][0].as_py())
        part = table["part"][0].as_py()
        return self._through(table.drop_columns(["part", "trace_json"]).to_pylist(), part, trace)

    def _planned(self, part: int) -> pa.Table:
        if self._part is None or self._part[0] != part:
            self._part = (part, self._run.folder.read_part("plan", part))
        return self._part[1]

    def _answers(self, part: int, rows: Sequence[Row]) -> dict[str, CachedOutputs]:
        """What an earlier form of the run answered for rows of a part, by their keys."""
        if part not in self._run.cached_parts:
            return {}
        if self._kept is None or self._kept[0] != part:
            table = self._run.folder.read_part(CACHED, part)
            self._kept = (part, cached_outputs_by_key(self._run.plan, table))
        written = {name for stage in self._stages for name in stage.output_names}
        images = self._run.plan.stored_images().items()
        stored = {image: uri for image, uri in images if image in written}
        storage = self._run.folder.storage
        known = {row["key"]: self._kept[1].get(row["key"]) for row in rows}
        found = {
            key: answers.restored(storage, stored) for key, answers in known.items() if answers
        }
        return {key: answers for key, answers in found.items() if answers}

    def _through(self, rows: list[dict[str, Any]], part: int, before: Trace) -> pa.Table:
        given = [{**row, **self._run.constants} for row in rows]
        kept = self._answers(part, rows)
        with self._attempts.of_task([row["key"] for row in rows]) as earlier:
            run = self._one_by_one if earlier else self._together
            ran, seconds = run(given, kept)
        found = [_with_stored(row, kept.get(row["key"])) for row in ran]
        trace = before.then(Trace(seconds, self._rungs()))
        if self._group == self._run.plan.group_names[-1]:
            return self._commit(found, part, trace)
        return self._handed_on(found, part, trace)

    def _rungs(self) -> dict[str, list[str]]:
        return {name: loaded.rungs for name, loaded in self._models.items() if loaded.rungs}

    def _together(self, rows: Sequence[Row], kept: Mapping[str, CachedOutputs]) -> StagesRun:
        return run_stages(self._stages, self._models, rows, kept)

    def _one_by_one(self, rows: Sequence[Row], kept: Mapping[str, CachedOutputs]) -> StagesRun:
        """Runs rows alone; one that ended its worker too often fails.

        Those that have ended it once come first, so that the others are not done again with them.
        """
        first = self._attempts.suspects([row["key"] for row in rows])
        order = sorted(range(len(rows)), key=lambda index: rows[index]["key"] not in first)
        by_index = {index: self._alone(rows[index], kept) for index in order}
        ran = [by_index[index] for index in range(len(rows))]
        seconds = {
            stage.name: sum(taken.get(stage.name, 0.0) for _, taken in ran)
            for stage in self._stages
        }
        return StagesRun([row for found, _ in ran for row in found], seconds)

    def _alone(self, row: Row, kept: Mapping[str, CachedOutputs]) -> StagesRun:
        earlier = self._attempts.deaths(row["key"])
        if earlier < self._run.plan.limits.max_attempts:
            with self._attempts.of_row(row["key"]):
                return self._together([row], kept)
        if row.get(c.EDITED_URI.name) is None:  # or an earlier group has stored it, and named it
            self._run.folder.remove_objects(row["key"], self._run.plan.image_format)
        message = f"its worker died {earlier} times while the row was alone in it"
        ending = {"status": FAILED, "stage": self._group, "error_code": "worker_died"}
        return StagesRun([{**row, **ending, "error_message": message}], {})

    def _commit(self, rows: Sequence[dict[str, Any]], part: int, trace: Trace) -> pa.Table:
        policy = self._run.plan.policy
        ended = [apply_policy({"status": ACCEPTED, "stage": None, **row}, policy) for row in rows]
        table = pa.Table.from_pylist(ended, self._result_schema)
        self._run.folder.write_result(part, result_name([row["key"] for row in ended]), table)
        ledger = count(row["status"] for row in ended)
        summary = {**ledger.as_json(), "part": part, "trace_json": trace.as_json()}
        return pa.Table.from_pylist([summary], SUMMARY)

    def _handed_on(self, rows: Sequence[dict[str, Any]], part: int, trace: Trace) -> pa.Table:
        text = trace.as_json()
        return pa.Table.from_pylist(
            [{**row, "part": part, "trace_json": text} for row in rows], self._stream_schema
        )

    @cached_property
    def _result_schema(self) -> pa.Schema:
        return result_schema(self._run.plan)

    @cached_property
    def _stream_schema(self) -> pa.Schema:
        """What the manifest keeps of the stages so far, and what a later stage reads."""
        plan = self._run.plan
        names = plan.group_names
        done = names[: names.index(self._group) + 1]
        so_far = [stage for stage in plan.stages if stage.group in done]
        later = [stage for stage in plan.stages if stage.group not in done]
        kept = [o for stage in so_far for o in stage.outputs if o.scope == "manifest"]
        read = [o for stage in later for o in (*stage.inputs, *stage.optional)]
        written_later = {name for stage in later for name in stage.output_names}
        sent = [o for o in read if o.scope != "run" and o.name not in written_later]
        columns = {o.name: o.type for o in (c.KEY, *kept, *sent, *_ENDING)}
        fields = [pa.field(name, kind) for name, kind in columns.items()]
        return pa.schema([*fields, _PART, _TRACE])


def _with_stored(row: dict[str, Any], kept: CachedOutputs | None) -> dict[str, Any]:
    """A row; one that failed in an update keeps what it has stored, so that it stays named."""
    if kept is None or row.get("status") != FAILED:
        return row
    return {**row, **{k: v for k, v in kept.values.items() if row.get(k) is None}}
