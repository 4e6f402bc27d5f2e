"""One actor's work: load a group's models once, then take tasks through its stages, two at a time.

The first group reads a task's rows from the plan; the last one commits how they ended. Between two
groups rows travel as an Arrow table: encoded images and values, never live objects.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count as numbers
from typing import Any

import pyarrow as pa
from overpaint.cluster.worker.attempts import Attempts
from overpaint.cluster.worker.batch import StagesRun, run_stages
from overpaint.cluster.worker.evaluations import EvaluationCounter
from overpaint.cluster.worker.gpu_memory import ShareProbe, device_memory
from overpaint.cluster.worker.helpers import TASKS_AT_ONCE, Helpers, Share
from overpaint.cluster.worker.lane import ActorLane, Lane
from overpaint.cluster.worker.logs import log_task
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.cluster.worker.model_thread import ModelThread, Turn
from overpaint.cluster.worker.task_report import Observer, TaskReport
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.images import release
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
from overpaint.pipeline.runs.shards import pack
from overpaint.pipeline.runs.tasks import Task

SUMMARY = pa.schema(
    [
        ("part", pa.int32()),
        ("accepted", pa.int32()),
        ("rejected", pa.int32()),
        ("failed", pa.int32()),
        ("stats_json", pa.string()),
    ]
)
"""Columns of the summary of a task that the last group sends to the driver."""

_ENDING = (c.STATUS, c.STAGE, c.ERROR_CODE, c.ERROR_MESSAGE)
_PART = pa.field("part", pa.int32())
_STATS = pa.field("stats_json", pa.string())


@dataclass(frozen=True, slots=True)
class StageStats:
    """Statistics of stages over one task, by stage name.

    Attributes:
        seconds: seconds taken.
        oom_fallbacks: fallbacks in force after a lack of memory.
        notes: what the loaded operators have found out, see `Operator.notes`.
        gpu_seconds: seconds for which GPUs were reserved, times their number: for each actor from
            its start, or the end of its task before, to the end of the task.
        evaluations: network evaluations that models have counted meanwhile, by kind as in `Cost`.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    oom_fallbacks: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    gpu_seconds: float = 0.0
    evaluations: dict[str, int] = field(default_factory=dict[str, int])

    def as_json(self) -> str:
        """Returns the statistics as a JSON text, in which they go from group to group."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "StageStats":
        """Reads what `as_json` returned."""
        return cls(**json.loads(text))

    def merge(self, other: "StageStats") -> "StageStats":
        """Returns these statistics with those of other stages."""
        return StageStats(
            {**self.seconds, **other.seconds},
            {**self.oom_fallbacks, **other.oom_fallbacks},
            {**self.notes, **other.notes},
            self.gpu_seconds + other.gpu_seconds,
            dict(Counter(self.evaluations) + Counter(other.evaluations)),
        )


class _LoadedStages(dict[str, LoadedOperator]):
    """The loaded operators of a group, by stage; an idle stage is loaded when it is needed."""

    def __init__(self, run: Run, group: str, models: ModelThread) -> None:
        super().__init__()
        self._stages = {stage.name: stage for stage in run.plan.stages_of(group)}
        self._limits = run.plan.limits
        self._models = models
        for name in self._stages.keys() - run.idle_stages:
            self._models.call(Turn(), self._load, name)

    def __missing__(self, name: str) -> LoadedOperator:
        self._models.call(Turn(), self._load, name)
        return self[name]

    def _load(self, name: str) -> None:
        if name in self:
            return
        operator = self._stages[name].operator
        try:
            self[name] = LoadedOperator.load(
                operator,
                allow_inexact=self._limits.allow_inexact,
                row_timeout_s=self._limits.row_timeout_s,
                stage=name,
            )
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            raise StoppedError(f"stage {name!r}: its model cannot be loaded: {reason}") from error


class GroupWorker:
    """The stages of one group with their models; takes `TASKS_AT_ONCE` tasks, from as many threads.

    Args:
        run: run whose rows it takes.
        group: name of the group.
        models: thread of the models, where several groups share it; None makes one.
        observer: told of each task that ends; None tells nobody.
    """

    def __init__(
        self,
        run: Run,
        group: str,
        models: ModelThread | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._accounted_s = time.monotonic()
        self._busy_s = 0.0
        self._observer = observer
        self._run = run
        self._group = group
        self._stages = run.plan.stages_of(group)
        self._models = models or ModelThread()
        self._helpers = Helpers()
        self._seats = Share(TASKS_AT_ONCE)
        self._numbers = numbers()
        self._num_rows = 0
        self._lock = threading.Lock()
        self._loaded = _LoadedStages(run, group, self._models)
        self._evaluations = EvaluationCounter(one.model for one in self._loaded.values())
        self._share = ShareProbe(group, run.plan.placement(group).num_gpus)
        self._part: tuple[int, pa.Table] | None = None
        self._cached: tuple[int, dict[str, CachedOutputs]] | None = None
        timeout_s = run.plan.limits.row_timeout_s
        self._attempts = Attempts(run.folder.storage, group, timeout_s)

    def close(self) -> None:
        """Ends the threads of the worker, after what they have under way; its models' stay."""
        self._helpers.close()
        self._attempts.close()

    def start(self, task: Task) -> pa.Table:
        """Runs a task of the plan; for the first group.

        Returns:
            The rows for the next group, or after the last group a table of `SUMMARY`.
        """
        table = self._planned(task.part).take(pa.array(task.rows))
        return self._run_rows(table.to_pylist(), task.part, StageStats())

    def proceed(self, table: pa.Table) -> pa.Table:
        """Runs the rows that the group before returned; returns what `start` does."""
        stats = StageStats.from_json(table["stats_json"][0].as_py())
        part = table["part"][0].as_py()
        rows = table.drop_columns(["part", "stats_json"]).to_pylist()
        return self._run_rows(rows, part, stats)

    def _planned(self, part: int) -> pa.Table:
        known = self._part
        if known is None or known[0] != part:
            self._part = known = (part, self._run.folder.read_part("plan", part))
        return known[1]

    def _cached_outputs(self, part: int, rows: Sequence[Row]) -> dict[str, CachedOutputs]:
        """Returns what a previous version of the run has stored for rows of a part, by key."""
        if part not in self._run.cached_parts:
            return {}
        known = self._cached
        if known is None or known[0] != part:
            table = self._run.folder.read_part(CACHED, part)
            self._cached = known = (part, cached_outputs_by_key(self._run.plan, table))
        written = {name for stage in self._stages for name in stage.output_names}
        images = self._run.plan.stored_images().items()
        stored = {image: uri for image, uri in images if image in written}
        storage = self._run.folder.storage
        by_key = {row["key"]: known[1].get(row["key"]) for row in rows}
        restored = {
            key: outputs.restored(storage, stored) for key, outputs in by_key.items() if outputs
        }
        return {key: outputs for key, outputs in restored.items() if outputs}

    def _run_rows(self, rows: list[dict[str, Any]], part: int, before: StageStats) -> pa.Table:
        full_rows = [{**row, **self._run.constants} for row in rows]
        cached = self._cached_outputs(part, rows)
        keys = [row["key"] for row in rows]
        num_crashes = self._attempts.crashes_of_task(keys)
        run = self._run_together if num_crashes < 2 else self._run_one_by_one
        with self._seat(keys, is_alone=num_crashes > 0) as lane:
            done, seconds = run(full_rows, cached, lane)
            kept = [_with_stored(row, cached.get(row["key"])) for row in done]
            if self._run.plan.is_packed:
                kept = self._packed(kept, cached)
        release(value for row in done for value in row.values() if isinstance(value, bytes))
        elapsed_s, busy_s = self._accounted()
        gpu_seconds = elapsed_s * self._run.plan.placement(self._group).num_gpus
        stats = StageStats(
            seconds, self._oom_fallbacks(), self._notes(), gpu_seconds, self._evaluated()
        )
        report = TaskReport(
            run=self._run.plan.name,
            group=self._group,
            part=part,
            task=result_name(keys),
            num_rows=len(rows),
            seconds=seconds,
            num_attempts=num_crashes,
            oom_fallbacks=stats.oom_fallbacks,
            busy_share=busy_s / elapsed_s if elapsed_s else 0.0,
        )
        return self._passed_on(kept, part, before.merge(stats), report)

    def _passed_on(
        self, rows: list[dict[str, Any]], part: int, stats: StageStats, report: TaskReport
    ) -> pa.Table:
        """Commits rows, or hands them on to the next group, and reports the task."""
        if self._group == self._run.plan.group_names[-1]:
            rows = [self._ended(row) for row in rows]
            report = replace(report, by_status=dict(Counter(row["status"] for row in rows)))
            table = self._commit(rows, part, stats)
        else:
            table = self._hand_on(rows, part, stats)
        log_task(report, rows)
        if self._observer is not None:
            self._observer(report)
        return table

    def _packed(
        self, rows: Sequence[Row], cached: Mapping[str, CachedOutputs]
    ) -> list[dict[str, Any]]:
        """Writes the pictures of a task into its shard; those of before stay where they are."""
        before = {key: outputs.spans for key, outputs in cached.items()}
        return pack(rows, self._run.plan.stored_images(), self._run.folder.storage, before)

    def _ended(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns a row as it ends with the last group."""
        return apply_policy({"status": ACCEPTED, "stage": None, **row}, self._run.plan.policy)

    @contextmanager
    def _seat(self, keys: Sequence[str], *, is_alone: bool) -> Generator[Lane]:
        """Waits until a task may begin, and notes its attempt.

        Args:
            keys: keys of the rows.
            is_alone: whether no other task may be beside it, which it could take along.
        """
        with self._seats.taken(TASKS_AT_ONCE if is_alone else 1):
            with self._lock:
                self._num_rows += len(keys)
                num_rows, number = self._num_rows, next(self._numbers)
            try:
                with self._attempts.of_task(keys, num_rows):
                    yield ActorLane(Turn(number), self._models, self._helpers, result_name(keys))
            finally:
                with self._lock:
                    self._num_rows -= len(keys)

    def _accounted(self) -> tuple[float, float]:
        """Returns the seconds since they were last asked for, and those of models at work."""
        with self._lock:
            since, busy_before = self._accounted_s, self._busy_s
            self._accounted_s, self._busy_s = time.monotonic(), self._models.busy_s
            return self._accounted_s - since, self._busy_s - busy_before

    def _oom_fallbacks(self) -> dict[str, list[str]]:
        loaded = self._loaded.items()
        return {name: one.oom_fallbacks for name, one in loaded if one.oom_fallbacks}

    def _evaluated(self) -> dict[str, int]:
        with self._lock:
            return self._evaluations.since([one.model for one in self._loaded.values()])

    def _notes(self) -> dict[str, Any]:
        found = {name: one.operator.notes(one.model) for name, one in self._loaded.items()}
        kept = {name: notes for name, notes in found.items() if notes}
        return kept | self._share.notes(device_memory())

    def _run_together(
        self, rows: Sequence[Row], cached: Mapping[str, CachedOutputs], lane: Lane
    ) -> StagesRun:
        return run_stages(self._stages, self._loaded, rows, cached, lane)

    def _run_one_by_one(
        self, rows: Sequence[Row], cached: Mapping[str, CachedOutputs], lane: Lane
    ) -> StagesRun:
        """Runs rows alone; one that has crashed its worker too often fails.

        Suspected poison rows come first, so that the others are not done again with them.
        """
        crashes = [self._attempts.crashes_of_row(row["key"]) for row in rows]
        order = sorted(range(len(rows)), key=lambda index: crashes[index] == 0)
        by_index = {
            index: self._run_alone(rows[index], cached, lane, crashes[index]) for index in order
        }
        runs = [by_index[index] for index in range(len(rows))]
        seconds = {
            stage.name: sum(run.seconds.get(stage.name, 0.0) for run in runs)
            for stage in self._stages
        }
        return StagesRun([row for run in runs for row in run.rows], seconds)

    def _run_alone(
        self, row: Row, cached: Mapping[str, CachedOutputs], lane: Lane, num_crashes: int
    ) -> StagesRun:
        if num_crashes < self._run.plan.limits.max_attempts:
            with self._attempts.of_row(row["key"]):
                return self._run_together([row], cached, lane)
        is_stored = row.get("edited_uri") is not None or self._run.plan.is_packed
        if not is_stored:  # or an earlier group has stored the image, and named it
            self._run.folder.remove_objects(row["key"], self._run.plan.image_format)
        message = f"its worker died {num_crashes} times while the row was alone in it"
        ending = {"status": FAILED, "stage": self._group, "error_code": "worker_died"}
        return StagesRun([{**row, **ending, "error_message": message}], {})

    def _commit(self, rows: Sequence[dict[str, Any]], part: int, stats: StageStats) -> pa.Table:
        table = pa.Table.from_pylist(list(rows), self._result_schema)
        keys = [row["key"] for row in rows]
        self._run.folder.write_result(part, result_name(keys), table)
        if self._run.plan.unrepeatable():
            self._run.folder.remove_answers(keys)
        ledger = count(row["status"] for row in rows)
        summary = {**ledger.as_json(), "part": part, "stats_json": stats.as_json()}
        return pa.Table.from_pylist([summary], SUMMARY)

    def _hand_on(self, rows: Sequence[dict[str, Any]], part: int, stats: StageStats) -> pa.Table:
        text = stats.as_json()
        return pa.Table.from_pylist(
            [{**row, "part": part, "stats_json": text} for row in rows], self._stream_schema
        )

    @cached_property
    def _result_schema(self) -> pa.Schema:
        return result_schema(self._run.plan)

    @cached_property
    def _stream_schema(self) -> pa.Schema:
        """The columns that later stages read, or that the manifest keeps of the stages so far."""
        plan = self._run.plan
        names = plan.group_names
        done = names[: names.index(self._group) + 1]
        so_far = [stage for stage in plan.stages if stage.group in done]
        later = [stage for stage in plan.stages if stage.group not in done]
        kept = [o for stage in so_far for o in stage.outputs if o.scope == "manifest"]
        read = [o for stage in later for o in (*stage.inputs, *stage.optional)]
        written_later = {name for stage in later for name in stage.output_names}
        sent = [o for o in read if o.scope != "run" and o.name not in written_later]
        columns = {o.name: o.type for o in (c.KEY, *kept, *plan.runner_outputs, *sent, *_ENDING)}
        fields = [pa.field(name, kind) for name, kind in columns.items()]
        return pa.schema([*fields, _PART, _STATS])


def _with_stored(row: dict[str, Any], cached: CachedOutputs | None) -> dict[str, Any]:
    """Returns a row; one that failed in an update keeps what it has stored, so that it is named."""
    if cached is None or row.get("status") != FAILED:
        return row
    return {**row, **{k: v for k, v in cached.values.items() if row.get(k) is None}}
