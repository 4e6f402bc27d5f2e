"""GEdit-Bench: what users really asked for, in English and Chinese (arXiv 2504.17761).

It is published as Parquet (stepfun-ai/GEdit-Bench on the hub, `data/train-*.parquet`) with the
columns `task_type` (eleven groups), `key`, `instruction`, `instruction_language` (en or cn),
`input_image`, `input_image_raw` (the picture as it was given, which becomes the source; where it is
missing, `input_image`) and `Intersection_exist` (whether the row is in the part that all compared
models answered). A picture is a struct of `bytes` and `path`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow
from overpaint.jobs.imports.values import picture_at, text_of
from overpaint.pipeline.edit_types import EditType
from overpaint.pipeline.errors import UsageError, near_miss

TASKS: Mapping[str, EditType | None] = {
    "background_change": "background",
    "color_alter": "color",
    "material_alter": "texture",
    "motion_change": "pose",
    "ps_human": None,
    "style_change": "style",
    "subject-add": "add",
    "subject-remove": "remove",
    "subject-replace": "replace",
    "text_change": None,
    "tone_transfer": None,
}
"""Edit types by GEdit-Bench's groups; None for those that the survey has no type for."""

_TEXTS = ("task_type", "key", "instruction", "instruction_language")
_IMAGES = ("input_image_raw", "input_image")
_IN_ALL = "Intersection_exist"
_ROWS_AT_ONCE = 16


class GEditBench(Benchmark):
    """GEdit-Bench: instructions of users in eleven groups, in two languages."""

    title: ClassVar[str] = "GEdit-Bench"
    columns: ClassVar[tuple[str, ...]] = (
        *("instruction", "edit_type", "task"),
        *("benchmark_key", "language", "in_intersection"),
    )

    def rows(self, folder: Path) -> Iterator[BenchmarkRow]:
        """Yields the rows of the Parquet files, in the order of their names."""
        files = sorted(folder.rglob("*.parquet"))
        if not files:
            raise UsageError(f"{folder}: no Parquet files are there: not GEdit-Bench's layout")
        for file in files:
            yield from _rows(file)


def _rows(file: Path) -> Iterator[BenchmarkRow]:
    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{file}: not Parquet: {error}") from error
    names = table.schema_arrow.names
    image = next((name for name in _IMAGES if name in names), None)
    if image is None:
        raise UsageError(f"{file}: no column {_IMAGES[1]!r}: {near_miss(_IMAGES[1], names)}")
    wanted = [name for name in (*_TEXTS, image, _IN_ALL) if name in names]
    number = 0
    for batch in table.iter_batches(_ROWS_AT_ONCE, columns=wanted):
        for entry in batch.to_pylist():
            number += 1
            yield _row(entry, image, f"{file}: row {number}", file.parent)


def _row(entry: Mapping[str, Any], image: str, place: str, folder: Path) -> BenchmarkRow:
    task, key, instruction, language = (text_of(entry, name, place) for name in _TEXTS)
    if task not in TASKS:
        raise UsageError(f"{place}: unknown task_type {task!r}: {near_miss(task, TASKS)}")
    return BenchmarkRow(
        place=place,
        image=_picture(entry[image], image, place, folder),
        values={
            "instruction": instruction,
            "edit_type": TASKS[task],
            "task": task,
            "benchmark_key": key,
            "language": language,
            "in_intersection": entry.get(_IN_ALL),
        },
    )


def _picture(value: Any, column: str, place: str, folder: Path) -> Path | bytes:
    if isinstance(value, dict) and value.get("bytes"):
        return value["bytes"]
    if isinstance(value, dict) and value.get("path"):
        return picture_at(folder, value["path"], place)
    raise UsageError(f"{place}: {column} holds no picture: a struct of bytes and path should")
