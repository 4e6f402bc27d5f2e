"""A task's rows through the stages of a group: the one place in the project that catches.

Rows that end (rejected or failed) pass the later stages untouched. Rows whose inputs are equal
share one answer. An operator answers each row of a batch with new columns, with why it rejects the
row, or with why it cannot do it; a batch that raises is split until the row that raises is alone.
"""

import math
import re
import time
from collections.abc import Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.cluster.worker.attempts import end_process
from overpaint.cluster.worker.memory import Loaded, is_out_of_memory
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError, StoppedError
from overpaint.pipeline.operator import Answer, NewColumns, Rejected
from overpaint.pipeline.plan import Stage
from overpaint.pipeline.runs.manifest import FAILED, REJECTED
from overpaint.pipeline.runs.reuse import CachedOutputs

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


class Ran(NamedTuple):
    """Rows that went through stages, in order, and the seconds that each stage took."""

    rows: list[dict[str, Any]]
    seconds: dict[str, float]


def run_stages(
    stages: Sequence[Stage],
    loaded: Mapping[str, Loaded],
    rows: Sequence[Row],
    kept: Mapping[str, CachedOutputs] | None = None,
) -> Ran:
    """Runs rows through stages.

    Args:
        stages: of one group, in order.
        loaded: each stage's operator with its model, by stage name.
        rows: with the columns the stages read; a row whose `status` is set has ended.
        kept: answers that need not be asked for again, by the key of their row.
    """
    found = [dict(row) for row in rows]
    seconds: dict[str, float] = {}
    for stage in stages:
        start = time.perf_counter()
        alive = [index for index, row in enumerate(found) if row.get("status") is None]
        answers = {index: _kept_answer(stage, found[index], kept or {}) for index in alive}
        asked = [index for index, answer in answers.items() if answer is None]
        if asked:
            given = _shared(loaded[stage.name], [found[index] for index in asked])
            answers.update(zip(asked, given, strict=True))
        for index, answer in answers.items():
            found[index].update(_ending(stage, answer))
        seconds[stage.name] = time.perf_counter() - start
    return Ran(found, seconds)


def _kept_answer(stage: Stage, row: Row, kept: Mapping[str, CachedOutputs]) -> Outcome | None:
    answers = kept.get(row["key"]) if kept else None
    return answers.of(stage, row) if answers else None


def _ending(stage: Stage, answer: Outcome | None) -> Mapping[str, Any]:
    assert answer is not None
    if isinstance(answer, Rejected | Failed):
        return {
            "status": REJECTED if isinstance(answer, Rejected) else FAILED,
            "stage": stage.name,
            "error_code": answer.code,
            "error_message": answer.message,
        }
    return answer


def _shared(loaded: Loaded, rows: Sequence[Row]) -> list[Outcome]:
    """One answer a row, asking once for rows whose inputs are equal."""
    columns = (*loaded.operator.inputs, *loaded.operator.optional)
    visible = [{column.name: row.get(column.name) for column in columns} for row in rows]
    subjects = [tuple(_hashable(value) for value in row.values()) for row in visible]
    first = {subject: index for index, subject in reversed(list(enumerate(subjects)))}
    asked = sorted(first.values())
    answers = dict(zip(asked, _bucketed(loaded, [visible[i] for i in asked]), strict=True))
    return [answers[first[subject]] for subject in subjects]


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


def _bucketed(loaded: Loaded, rows: Sequence[Row]) -> list[Outcome]:
    """Batches of rows that may share a call, in order of first appearance."""
    operator = loaded.operator
    buckets: dict[Hashable, list[int]] = {}
    failed: dict[int, Outcome] = {}
    for index, row in enumerate(rows):
        try:
            buckets.setdefault(operator.bucket(row), []).append(index)
        except Exception as error:  # noqa: BLE001  a row too broken to be sized fails alone
            failed[index] = _failed(error)
    answers: dict[int, Outcome] = failed
    for members in buckets.values():
        for start in range(0, len(members), operator.batch_size):
            batch = members[start : start + operator.batch_size]
            found = run_batch(loaded, [rows[index] for index in batch])
            answers.update(zip(batch, found, strict=True))
    return [answers[index] for index in range(len(rows))]


def run_batch(loaded: Loaded, rows: Sequence[Row]) -> list[Outcome]:
    """Returns one outcome for each row of a batch, whatever the operator raises.

    Args:
        loaded: the operator and its model.
        rows: at least one, of one bucket, and no more than the operator's `batch_size`.
    """
    if len(rows) > loaded.operator.batch_size:  # which a lack of memory has halved
        return _halves(loaded, rows)
    try:
        return _outcomes(loaded.operator.outputs, loaded.run(rows), len(rows))
    except StoppedError:
        raise  # the store takes nothing more: that is no row's fault
    except (Exception, SystemExit) as error:  # noqa: BLE001  the boundary between a row and a run
        if _LOST_DEVICE.search(str(error)):
            end_process(f"the device is lost to this process: {error}")
        cause, is_lack_of_memory = _failed(error), is_out_of_memory(error)
    # Only here are the tensors of the failed call free: the error's frames held them.
    if is_lack_of_memory and loaded.relieve():
        return run_batch(loaded, rows)
    return [cause] if len(rows) == 1 else _halves(loaded, rows)


def _halves(loaded: Loaded, rows: Sequence[Row]) -> list[Outcome]:
    middle = len(rows) // 2
    return [*run_batch(loaded, rows[:middle]), *run_batch(loaded, rows[middle:])]


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
    """An error as what the manifest says: equal for equal causes, without addresses."""
    if isinstance(error, RowError):
        return Failed(error.code, _storable(error.message))
    name = type(error).__name__
    code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    lines = _ADDRESS.sub("0x...", str(error)).strip().split("\n", 1)
    return Failed(code, _storable(f"{name}: {lines[0]}".removesuffix(": ")))


def _storable(text: str) -> str:
    """Text that Arrow takes: file names can hold what is no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()[:_MAX_MESSAGE]
