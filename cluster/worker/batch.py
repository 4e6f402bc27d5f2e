"""A task's rows through the stages of a group: the one place in the project that catches.

Rows that end (rejected or failed) pass the later stages untouched. Rows whose inputs are equal
share one answer. An operator answers each row of a batch with new columns, with why it rejects the
row, or with why it cannot do it; a batch that raises is split until the row that raises is alone.
"""

import math
import re
from collections.abc import Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.cluster.worker.deadline import end_process
from overpaint.cluster.worker.lane import Lane
from overpaint.cluster.worker.memory import LoadedOperator, is_out_of_memory
from overpaint.pipeline.columns import HEIGHT_PX, WIDTH_PX, Column, Row
from overpaint.pipeline.errors import RowError, StoppedError
from overpaint.pipeline.operator import Answer, NewColumns, Rejected
from overpaint.pipeline.runs.manifest import FAILED, REJECTED
from overpaint.pipeline.runs.reuse import CachedOutputs
from overpaint.pipeline.stage import Stage

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_MAX_MESSAGE = 300
# After one of these every later call of the process fails too, whatever its row.
_LOST_DEVICE = re.compile(
    r"CUDA error: (an illegal memory access|device-side assert|unspecified launch failure|"
    r"uncorrectable ECC|misaligned address)"
)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an operator could not do a row.

    Attributes:
        code: word for the manifest, such as `image_truncated`.
        message: one sentence.
    """

    code: str
    message: str


Outcome = NewColumns | Rejected | Failed
"""What became of one row in one stage."""


class StagesRun(NamedTuple):
    """Rows that went through stages.

    Attributes:
        rows: the rows, in order, with the columns that the stages added.
        seconds: seconds of work in each stage, by its name, without waiting for models.
    """

    rows: list[dict[str, Any]]
    seconds: dict[str, float]


def run_stages(
    stages: Sequence[Stage],
    loaded: Mapping[str, LoadedOperator],
    rows: Sequence[Row],
    cached: Mapping[str, CachedOutputs] | None = None,
    lane: Lane | None = None,
    after: Sequence[Stage] = (),
) -> StagesRun:
    """Runs rows through stages.

    Args:
        stages: stages of one group, in order.
        loaded: each stage's operator with its model, by stage name.
        rows: rows with the columns that the stages read; one whose `status` is set has ended.
        cached: outputs of stages that need not run, by the key of their row.
        lane: calls the operators; None does so one after the other, in this thread.
        after: stages that come after these, and may need what never leaves the actor.
    """
    done = [dict(row) for row in rows]
    seconds: dict[str, float] = {}
    for place, stage in enumerate(stages):
        later = (*stages[place + 1 :], *after)
        through = (lane or Lane()).for_stage(max(map(_pixels, done), default=0))
        outcomes = _outcomes_of(stage, later, loaded, done, cached or {}, through)
        for index, outcome in outcomes.items():
            done[index].update(_new_columns(stage, outcome))
        seconds[stage.name] = through.turn.seconds
    return StagesRun(done, seconds)


def _pixels(row: Row) -> int:
    """Returns the number of a source's pixels; 0 before it is read."""
    return (row.get(WIDTH_PX.name) or 0) * (row.get(HEIGHT_PX.name) or 0)


def _outcomes_of(
    stage: Stage,
    later: Sequence[Stage],
    loaded: Mapping[str, LoadedOperator],
    rows: Sequence[Row],
    cached: Mapping[str, CachedOutputs],
    lane: Lane,
) -> dict[int, Outcome]:
    """Returns the outcome of one stage for each row that has not ended, by the row's place."""
    outcomes: dict[int, Outcome] = {}
    pending: list[int] = []
    for index, row in enumerate(rows):
        if row.get("status") is not None:
            continue
        outputs = cached[row["key"]].of(stage, row) if row.get("key") in cached else None
        if outputs is None and not stage.is_needed(later, row):
            outputs = dict.fromkeys(stage.output_names)
        if outputs is None:
            pending.append(index)
        else:
            outcomes[index] = outputs
    if pending:
        read = [stage.to_operator(rows[index]) for index in pending]
        answers = _run_once_for_equal_rows(loaded[stage.name], read, lane)
        outcomes.update(zip(pending, (_renamed(stage, one) for one in answers), strict=True))
    return outcomes


def _renamed(stage: Stage, outcome: Outcome) -> Outcome:
    """Returns an outcome with new columns under the plan's names."""
    return outcome if isinstance(outcome, Rejected | Failed) else stage.from_operator(outcome)


def _new_columns(stage: Stage, outcome: Outcome) -> NewColumns:
    if isinstance(outcome, Rejected | Failed):
        return {
            "status": REJECTED if isinstance(outcome, Rejected) else FAILED,
            "stage": stage.name,
            "error_code": outcome.code,
            "error_message": outcome.message,
        }
    return outcome


def _run_once_for_equal_rows(
    loaded: LoadedOperator, rows: Sequence[Row], lane: Lane
) -> list[Outcome]:
    """Returns one outcome a row, and runs the operator once for rows that are equal.

    Args:
        loaded: the operator and its model.
        rows: with the columns that the operator reads, under its own names, and no others.
        lane: calls the operator.
    """
    values = [tuple(_hashable(value) for value in row.values()) for row in rows]
    first = {key: index for index, key in reversed(list(enumerate(values)))}
    unique = sorted(first.values())
    ended = _run_buckets(loaded, [rows[i] for i in unique], lane)
    outcomes = dict(zip(unique, ended, strict=True))
    return [outcomes[first[key]] for key in values]


def _hashable(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(_hashable(part) for part in value)
    if isinstance(value, dict):
        return tuple((key, _hashable(part)) for key, part in sorted(value.items()))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _run_buckets(loaded: LoadedOperator, rows: Sequence[Row], lane: Lane) -> list[Outcome]:
    """Runs rows in batches of one bucket each, buckets in order of first appearance."""
    operator = loaded.operator
    buckets: dict[Hashable, list[int]] = {}
    outcomes: dict[int, Outcome] = {}
    for index, row in enumerate(rows):
        try:
            buckets.setdefault(operator.bucket(row), []).append(index)
        except Exception as error:  # noqa: BLE001  a row too broken to be sized fails alone
            outcomes[index] = _failed(error)
    batches = [
        members[start : start + operator.batch_size]
        for members in buckets.values()
        for start in range(0, len(members), operator.batch_size)
    ]

    def run(batch: Sequence[int]) -> list[Outcome]:
        with lane.turn.working():
            return run_batch(loaded, [rows[index] for index in batch], lane)

    for batch, answers in zip(batches, lane.batches(run, batches), strict=True):
        outcomes.update(zip(batch, answers, strict=True))
    return [outcomes[index] for index in range(len(rows))]


def run_batch(
    loaded: LoadedOperator, rows: Sequence[Row], lane: Lane | None = None
) -> list[Outcome]:
    """Returns one outcome for each row of a batch, whatever the operator raises.

    Args:
        loaded: the operator and its model.
        rows: at least one, of one bucket, and no more than the operator's `batch_size`.
        lane: calls the operator; None does so in this thread.
    """
    lane = lane or Lane()
    if len(rows) > loaded.operator.batch_size:  # which a lack of memory has halved
        return _halves(loaded, rows, lane)
    num_fallbacks = len(loaded.oom_fallbacks)
    try:
        return _outcomes(loaded.operator.outputs, loaded.run(rows, lane), len(rows))
    except StoppedError:
        raise  # the store takes nothing more: that is no row's fault
    except (Exception, SystemExit) as error:  # noqa: BLE001  the boundary between a row and a run
        if _LOST_DEVICE.search(str(error)):
            end_process(f"the device is lost to this process: {error}")
        cause, is_lack_of_memory = _failed(error), is_out_of_memory(error)
    # Only here are the tensors of the failed call free: the error's frames held them.
    if is_lack_of_memory and loaded.free_memory(num_fallbacks, lane):
        return run_batch(loaded, rows, lane)
    return [cause] if len(rows) == 1 else _halves(loaded, rows, lane)


def _halves(loaded: LoadedOperator, rows: Sequence[Row], lane: Lane) -> list[Outcome]:
    middle = len(rows) // 2
    return [
        *run_batch(loaded, rows[:middle], lane),
        *run_batch(loaded, rows[middle:], lane),
    ]


def _outcomes(outputs: Sequence[Column], answers: Any, num_rows: int) -> list[Outcome]:
    """Holds an operator to its contract: one answer a row, with exactly its columns, as typed."""
    if not isinstance(answers, list | tuple) or len(answers) != num_rows:
        number = len(answers) if isinstance(answers, Sized) else "no"
        raise RowError("bad_answer", f"{number} answers for {num_rows} rows")
    return [_outcome(outputs, answer) for answer in answers]


def _outcome(outputs: Sequence[Column], answer: Answer) -> Outcome:
    if isinstance(answer, RowError):
        return _failed(answer)
    if isinstance(answer, Rejected):
        return answer
    problem = _problem(outputs, answer)
    return answer if problem is None else _failed(problem)


def _problem(outputs: Sequence[Column], answer: Any) -> RowError | None:
    """Returns what is wrong with the columns that an operator answered; None where nothing is."""
    if not isinstance(answer, Mapping):
        kind = type(answer).__name__
        return RowError("bad_answer", f"a {kind} instead of columns, Rejected or RowError")
    wanted = {column.name for column in outputs}
    if set(answer) != wanted:
        return RowError(
            "bad_answer", f"the columns {sorted(answer)} are not the outputs {sorted(wanted)}"
        )
    for column in outputs:
        if column.scope != "group" and not _fits(answer[column.name], column.type):
            kind = type(answer[column.name]).__name__
            return RowError("bad_answer", f"{column.name} is a {kind} and should be {column.type}")
        if pa.types.is_floating(column.type) and math.isnan(answer[column.name] or 0.0):
            return RowError("nan_in_result", f"{column.name} is not a number")
    return None


def _fits(value: Any, kind: pa.DataType) -> bool:
    if isinstance(value, bytes) and pa.types.is_binary(kind):
        return True  # not copied only to see that it can be: it is a whole image
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _failed(error: BaseException) -> Failed:
    """Returns an error as the manifest tells it: equal for equal causes, without addresses."""
    if isinstance(error, RowError):
        return Failed(error.code, _storable(error.message))
    name = type(error).__name__
    code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    lines = _ADDRESS.sub("0x...", str(error)).strip().split("\n", 1)
    return Failed(code, _storable(f"{name}: {lines[0]}".removesuffix(": ")))


def _storable(text: str) -> str:
    """Returns text that Arrow takes: file names can hold what is not Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()[:_MAX_MESSAGE]
