"""EditEval, the benchmark of the survey (arXiv 2402.17525, section 8).

`EditEval_v1/Dataset` of its repository (SiatMMLab/Awesome-Diffusion-Model-Based-Image-Editing-
Methods, MIT) has a folder for each of its seven tasks, with the pictures 1.jpg, 2.jpeg, ..., and
one sheet of prompts, `editing_prompts_collection.xlsx`: the task's name in the first column of its
first row, then source prompt, target prompt and instruction; the n-th row of a task is of picture
n. A folder with `prompts.jsonl` (`file_name`, `edit_type`, `source_prompt`, `target_prompt`,
`instruction`) and the pictures in it or in `images` is read as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow
from overpaint.jobs.imports.values import entry_of, picture_at, text_of
from overpaint.pipeline.edit_types import EditType
from overpaint.pipeline.errors import UsageError, near_miss

SHEET = "editing_prompts_collection.xlsx"
PROMPTS = "prompts.jsonl"
TASKS: Mapping[str, EditType] = {
    "object_addition": "add",
    "object_replacement": "replace",
    "object_removal": "remove",
    "background_change": "background",
    "style_change": "style",
    "texture_change": "texture",
    "action_change": "pose",
    # The survey's types that EditEval does not test.
    "expression_change": "expression",
    "color_change": "color",
    "object_movement": "move",
    "size_change": "resize",
    "viewpoint_change": "viewpoint",
}
"""Edit types by the names of their tasks: EditEval's seven, then the survey's other five."""

HEADERS = ("Source Prompt", "Target Prompt", "Instruction")
"""Heads of the prompt sheet's columns after the first, which names tasks."""
_FIELDS = ("source_prompt", "target_prompt", "instruction")
_DATASET = "Dataset"
_CLOSE = 0.85


class EditEval(Benchmark):
    """EditEval: seven tasks, each picture with two prompts and an instruction."""

    title: ClassVar[str] = "EditEval"
    columns: ClassVar[tuple[str, ...]] = (
        *("instruction", "source_prompt", "target_prompt", "edit_type"),
        *("task", "benchmark_key"),
    )

    def rows(self, folder: Path) -> Iterator[BenchmarkRow]:
        """Yields the rows of the prompt sheet, or of `prompts.jsonl`."""
        for place in (folder, folder / _DATASET):
            if (place / SHEET).is_file():
                return _sheet_rows(place)
            if (place / PROMPTS).is_file():
                return _line_rows(place)
        raise UsageError(f"{folder}: neither {SHEET} nor {PROMPTS} is there: not EditEval's layout")


class _Prompt(NamedTuple):
    """A row of the prompt sheet.

    Attributes:
        task: its task.
        number: its number in the task, from 1.
        line: its line in the sheet.
        texts: source prompt, target prompt and instruction.
    """

    task: str
    number: int
    line: int
    texts: Sequence[Any]


def _sheet_rows(folder: Path) -> Iterator[BenchmarkRow]:
    """Yields the rows of the published layout."""
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    for prompt in _prompts(folder / SHEET):
        place = f"{folder / SHEET}: line {prompt.line}"
        _edit_type(prompt.task, place)
        # The published name of a folder has a letter that differs from the sheet's.
        close = get_close_matches(prompt.task, folders, n=1, cutoff=_CLOSE)
        if not close:
            raise UsageError(f"{place}: no folder for task {prompt.task!r} in {folder}")
        image = _numbered(folder / close[0], prompt.number, place)
        key = f"{prompt.task}/{prompt.number}"
        yield _row(place, image, prompt.task, dict(zip(_FIELDS, prompt.texts, strict=True)), key)


def _prompts(sheet: Path) -> Iterator[_Prompt]:
    task, number = "", 0
    for line, cells in enumerate(_cells(sheet), 1):
        name, *texts = (*cells, None, None, None, None)[:4]
        if isinstance(name, str) and name.strip():
            task, number = "_".join(name.lower().split()), 0
        if any(texts) and tuple(texts) != HEADERS:
            number += 1
            yield _Prompt(task, number, line, texts)


def _cells(sheet: Path) -> Iterator[tuple[Any, ...]]:
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(sheet, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise UsageError(f"{sheet}: not a workbook that can be read: {error}") from error
    try:
        yield from book.worksheets[0].iter_rows(values_only=True)
    finally:
        book.close()


def _numbered(folder: Path, number: int, place: str) -> Path:
    for path in sorted(folder.iterdir()):
        if path.stem == str(number) and path.is_file():
            return path
    raise UsageError(f"{place}: there is no picture {number} in {folder}")


def _line_rows(folder: Path) -> Iterator[BenchmarkRow]:
    """Yields the rows of `prompts.jsonl`."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    with (folder / PROMPTS).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            place = f"{folder / PROMPTS}: line {number}"
            if line.strip():
                entry = _entry(line, place)
                name = text_of(entry, "file_name", place)
                image = picture_at(images, name, place)
                yield _row(place, image, text_of(entry, "edit_type", place), entry, image.stem)


def _entry(line: str, place: str) -> Mapping[str, Any]:
    try:
        return entry_of(json.loads(line), place)
    except ValueError as error:
        raise UsageError(f"{place}: not JSON: {error}") from error


def _row(place: str, image: Path, task: str, entry: Mapping[str, Any], key: str) -> BenchmarkRow:
    texts = {field: text_of(entry, field, place) for field in _FIELDS}
    own = {"edit_type": _edit_type(task, place), "task": task, "benchmark_key": key}
    return BenchmarkRow(place=place, image=image, values={**texts, **own})


def _edit_type(task: str, place: str) -> EditType:
    if task not in TASKS:
        raise UsageError(f"{place}: unknown task {task!r}: {near_miss(task, TASKS)}")
    return TASKS[task]
