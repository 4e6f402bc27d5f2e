"""ImgEdit-Bench: its basic and its understanding-grounding-editing suite (arXiv 2505.20275).

A suite is a JSON file (`singleturn.json` or `basic_edit.json`, `UGE_edit.json`) with the pictures
in folders beside it: an object by key, each with `id` (the picture's path), `prompt` (the
instruction) and, in the basic suite, `edit_type`. Other JSON files, such as the judge's prompts,
are passed over. Files of the multi-turn suite (`turn1`, `turn2`, ...) are refused: each turn edits
what the one before made, so that the rows are not known before.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow
from overpaint.jobs.imports.values import entry_of, picture_at, read_json, text_of
from overpaint.pipeline.edit_types import EditType
from overpaint.pipeline.errors import UsageError, near_miss

UGE = "uge"
"""Task of the rows of the understanding-grounding-editing suite, which have no type."""
TASKS: Mapping[str, EditType | None] = {
    "add": "add",
    "remove": "remove",
    "replace": "replace",
    "background": "background",
    "style": "style",
    "action": "pose",
    # Colour and material in one; the file in the repository and its documentation differ in name.
    "adjust": None,
    "alter": None,
    "extract": None,
    "compose": None,
    UGE: None,
}
"""Edit types by ImgEdit-Bench's own; None for those that the survey has no single type for."""


class ImgEditBench(Benchmark):
    """ImgEdit-Bench: instructions of nine types, and a harder suite without types."""

    title: ClassVar[str] = "ImgEdit-Bench"
    columns: ClassVar[tuple[str, ...]] = (
        *("instruction", "edit_type", "task"),
        *("benchmark_key", "suite"),
    )

    def rows(self, folder: Path) -> Iterator[BenchmarkRow]:
        """Yields the rows of every suite in the folder."""
        suites = {file: read_json(file) for file in sorted(folder.rglob("*.json"))}
        suites = {file: entries for file, entries in suites.items() if _is_suite(entries)}
        if not suites:
            raise UsageError(
                f"{folder}: no JSON file of rows with id and prompt: not ImgEdit-Bench's layout"
            )
        for file, entries in suites.items():
            for key, value in entries.items():
                yield _row(file, str(key), value)


def _is_suite(entries: Any) -> bool:
    """Tells whether a JSON file is a suite: an object of objects, the first of which has an id."""
    first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
    return isinstance(first, dict) and "id" in first


def _row(file: Path, key: str, value: Any) -> BenchmarkRow:
    place = f"{file}: {key!r}"
    entry = entry_of(value, place)
    if "turn1" in entry:
        raise UsageError(
            f"{place}: a row of several turns, each of which edits what the one before made: "
            "import a folder with the single-turn suites alone"
        )
    task = text_of(entry, "edit_type", place) if "edit_type" in entry else UGE
    if task not in TASKS:
        raise UsageError(f"{place}: unknown edit_type {task!r}: {near_miss(task, TASKS)}")
    values = {
        "instruction": text_of(entry, "prompt", place),
        "edit_type": TASKS[task],
        "task": task,
        "benchmark_key": key,
        "suite": file.stem,
    }
    image = picture_at(file.parent, text_of(entry, "id", place), place)
    return BenchmarkRow(place=place, image=image, values=values)
