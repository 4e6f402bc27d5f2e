"""Labels of a run's rows: papercut's truth, or a table that somebody has filled in.

The truth comes for nothing where the input has `target_uri` and the recipe the stage `truth`: a row
is good where its edit matches, its grade is the gain, and the kind of its failure follows from both
figures. A table has `label`, and `key` or `source_uri` with what else tells rows apart.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from overpaint.operators.truth import GAIN, OUTSIDE_PSNR_DB, SUCCESS, Truth
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.uris import normalise
from overpaint.pipeline.tables.parts import joined
from overpaint.pipeline.tables.tables import TABLE_SUFFIXES, is_table, open_table

LABEL, GRADE, FAILURE = "label", "grade", "failure"
_MATCHED = (c.SOURCE_URI.name, c.INSTRUCTION.name, c.METHOD.name, c.CANDIDATE.name)
_GOOD = {"1", "true", "yes", "good", "y"}
_BAD = {"0", "false", "no", "bad", "n"}
_SMALL_GAIN = 0.05


class Label(NamedTuple):
    """Label of a row.

    Attributes:
        is_good: whether the edit is good.
        grade: finer label, of which more is better; None where there is none.
        failure: kind of failure; empty where it is not known.
    """

    is_good: bool
    grade: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels by rows of the manifest.

    Attributes:
        origin: origin of the labels, in words.
        columns: columns of the manifest that tell the label of a row.
        find: finds the label of a row; None where it has none.
    """

    origin: str
    columns: tuple[str, ...]
    find: Callable[[Mapping[str, Any]], Label | None]


def truth_labels(folder: RunFolder, names: Sequence[str]) -> Labels:
    """Returns the labels that the stage `truth` has measured.

    Args:
        folder: run folder.
        names: columns of the manifest.

    Raises:
        UsageError: the run has none.
    """
    if SUCCESS.name not in names:
        raise UsageError(
            "the run measures no truth: give --labels TABLE with the columns key and label"
        )
    operator = _truth_of(folder)

    def find(row: Mapping[str, Any]) -> Label | None:
        success, gain = row[SUCCESS.name], row.get(GAIN.name)
        if success is None:
            return None
        return Label(success, gain, "" if success else failure_of(row, operator))

    columns = tuple(n for n in (SUCCESS.name, GAIN.name, OUTSIDE_PSNR_DB.name) if n in names)
    return Labels("papercut's truth", columns, find)


def failure_of(row: Mapping[str, Any], operator: Truth) -> str:
    """Returns the kind of failure that the truth's figures tell of a row that is not a success.

    - `over-edited`: the edit is there, and more has changed outside of it
    - `no-op`: next to nothing has changed
    - `half-done`: a part of the edit is there
    - `done wrongly`: the edit is as far from the truth as the source, or farther
    """
    gain, outside_db = row.get(GAIN.name), row.get(OUTSIDE_PSNR_DB.name)
    if gain is None or outside_db is None:
        return ""
    if gain >= operator.min_gain:
        return "over-edited"
    if abs(gain) < _SMALL_GAIN and outside_db >= operator.min_outside_psnr_db:
        return "no-op"
    return "half-done" if gain >= _SMALL_GAIN else "done wrongly"


def _truth_of(folder: RunFolder) -> Truth:
    record = RunRecord.find(folder)
    try:
        stages = record.plan(folder).stages if record else ()
    except UsageError:
        stages = ()  # of another version, or its operators are not installed here
    found = (stage.operator for stage in stages if isinstance(stage.operator, Truth))
    return next(found, Truth())


def table_labels(uri: str, names: Sequence[str], good_from: float | None) -> Labels:
    """Returns the labels of a table; rows that it names several times have the mean of theirs.

    Args:
        uri: Parquet, JSON lines or CSV file.
        names: columns of the manifest.
        good_from: least label of a good row; None where labels are 1 and 0, or such words.

    Raises:
        UsageError: the table is none, or lacks a column, or a label is not what it should be.
    """
    rows = list(_table_rows(uri))
    found = rows[0].keys() if rows else ()
    if LABEL not in found:
        raise UsageError(f"{uri}: it has no column {LABEL!r}: {near_miss(LABEL, found)}")
    matched = [c.KEY.name] if c.KEY.name in found else [n for n in _MATCHED if n in found]
    if not {c.KEY.name, c.SOURCE_URI.name} & set(matched):
        raise UsageError(f"{uri}: it needs the column key, or source_uri, to tell rows apart")
    lacking = [name for name in matched if name not in names]
    if lacking:
        raise UsageError(f"{uri}: the run has no column {lacking[0]!r} to match it by")
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_match(row, matched), []).append(row)
    labels = {match: _merged(uri, group, good_from) for match, group in groups.items()}
    return Labels(uri, tuple(matched), lambda row: labels.get(_match(row, matched)))


def _table_rows(uri: str) -> Iterator[dict[str, Any]]:
    if not is_table(uri):
        raise UsageError(f"{uri}: a table ends in {', '.join(TABLE_SUFFIXES)}")
    folder, _, name = normalise(uri).rpartition("/")
    opened = open_table(folder or "/", [name])
    stream = joined([file.part for file in opened.files], may_lack=opened.may_lack)
    yield from stream.table().to_pylist()


def _match(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in names)


def _merged(uri: str, rows: Sequence[Mapping[str, Any]], good_from: float | None) -> Label | None:
    values = [_value(uri, row[LABEL], good_from) for row in rows if not c.is_missing(row[LABEL])]
    if not values:
        return None
    mean = sum(values) / len(values)
    is_good = mean >= (0.5 if good_from is None else good_from)
    grades = [float(row[GRADE]) for row in rows if not c.is_missing(row.get(GRADE))]
    is_fine = good_from is not None or len(values) > 1
    grade = sum(grades) / len(grades) if grades else mean if is_fine else None
    failures = [row[FAILURE] for row in rows if not c.is_missing(row.get(FAILURE))]
    return Label(is_good, grade, "" if is_good or not failures else str(failures[0]))


def _value(uri: str, value: Any, good_from: float | None) -> float:
    text = str(value).strip().lower()
    if good_from is None and text.removesuffix(".0") in _GOOD | _BAD:
        return float(text.removesuffix(".0") in _GOOD)
    try:
        number = float(text) if good_from is not None else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        hint = "a number" if good_from is not None else "1 or 0; --good-from takes other numbers"
        raise UsageError(f"{uri}: label {value!r}: write {hint}")
    return number
