"""Datasets of drawn pictures: sources, edit instructions, masks and the true edited pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.conditions import CONDITIONS
from overpaint.jobs.papercut.conditions.boxes import layout
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import DrawnEdit, sample_edit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.scene import Split
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType
from overpaint.pipeline.errors import near_miss
from overpaint.pipeline.storage.clutter import is_clutter
from PIL import Image

ROWS_FILE = "rows.jsonl"
# Types for which the layout of the target, or the drag points, say more than the instruction.
BOX_TYPES: frozenset[EditType] = frozenset({"add", "move", "resize"})
POINT_TYPES: frozenset[EditType] = frozenset({"move", "resize", "pose"})
# Rows of one dataset take neighbouring seeds; two datasets never share one.
SEEDS_PER_DATASET = 1 << 32


def write_dataset(
    out: Path,
    *,
    rows: int,
    seed: int,
    edit_types: Sequence[str] = ("color", "replace"),
    split: Split = "test",
    conditions: Sequence[str] = (),
) -> None:
    """Writes images/, masks/, targets/ and rows.jsonl; equal arguments give equal bytes.

    A row has `source_uri`, `instruction`, `source_prompt`, `target_prompt`, `edit_type`,
    `mask_uri`, `target_uri` and `mask_phrase`; where one of the types has them also `boxes` (label
    and left, top, right, bottom of the target's items) and `points` (from x, y to x, y), null for
    the others. Conditions add columns, and files in folders named after them; they change no other
    column but `boxes` and `points`, which then all types have.

    Args:
        out: folder that is empty or does not exist yet.
        rows: number of rows, at least 1; the edit types alternate.
        seed: any integer; each gives another dataset.
        edit_types: some of the 12, or "all" alone.
        split: split whose content the sources show.
        conditions: some of `overpaint.jobs.papercut.conditions`, a user's own as
            `my_package.module:ClassName`, or "all" alone.

    Raises:
        ValueError: `out` is not an empty folder, `rows` is below 1, or an edit type is unknown.
        UsageError: a condition is unknown.

    Example:
        >>> write_dataset(Path("drawn"), rows=24, seed=0, edit_types=["all"])
        >>> write_dataset(Path("drawn-too"), rows=24, seed=0, conditions=["sketch", "boxes"])
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; it must be at least 1")
    dataset = _Dataset(out, seed, parse_edit_types(edit_types), split, parse_conditions(conditions))
    _prepare(out)
    lines = [_write_row(dataset, row) for row in range(rows)]
    (out / ROWS_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Dataset:
    """Dataset that is being written."""

    out: Path
    seed: int
    types: tuple[EditType, ...]
    split: Split
    conditions: Mapping[str, DrawnCondition]


def parse_edit_types(names: Sequence[str]) -> tuple[EditType, ...]:
    """Returns the edit types of some names; "all" alone stands for the 12.

    Args:
        names: some of EDIT_TYPES, or "all".

    Raises:
        ValueError: `names` is empty, or holds an unknown one.
    """
    if list(names) == ["all"]:
        return EDIT_TYPES
    if not names:
        raise ValueError(f"edit_types is empty; it must name some of {', '.join(EDIT_TYPES)}")
    return tuple(_edit_type(name) for name in names)


def parse_conditions(names: Sequence[str]) -> dict[str, DrawnCondition]:
    """Returns the conditions of some names, by name; "all" alone stands for those that come along.

    Args:
        names: some of `overpaint.jobs.papercut.conditions`, `my_package.module:ClassName` for a
            user's own, or "all".

    Raises:
        UsageError: there is no such condition.
    """
    known = CONDITIONS.names() if list(names) == ["all"] else names
    return {name: CONDITIONS.find(name)() for name in known}


def _edit_type(name: str) -> EditType:
    for edit_type in EDIT_TYPES:
        if name == edit_type:
            return edit_type
    raise ValueError(f"edit_types has {name!r}: {near_miss(name, EDIT_TYPES)}")


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; it must be an empty folder or not exist")
    if out.is_dir() and not all(is_clutter(path.name) for path in out.iterdir()):
        raise ValueError(f"{out} is not empty; name a folder that is empty or does not exist")
    for name in ("images", "masks", "targets"):
        (out / name).mkdir(parents=True)


def _write_row(dataset: _Dataset, row: int) -> str:
    seed, out = dataset.seed * SEEDS_PER_DATASET + row, dataset.out
    edit = sample_edit(seed, dataset.types[row % len(dataset.types)], dataset.split)
    name = f"{row:06d}.png"
    draw(edit.source).save(out / "images" / name)
    Image.fromarray(edit.mask).save(out / "masks" / name)
    draw(edit.target).save(out / "targets" / name)
    columns: dict[str, object] = {
        "source_uri": f"images/{name}",
        "instruction": edit.instruction,
        "source_prompt": edit.source_prompt,
        "target_prompt": edit.target_prompt,
        "edit_type": edit.edit_type,
        "mask_uri": f"masks/{name}",
        "target_uri": f"targets/{name}",
        "mask_phrase": edit.mask_phrase,
    }
    columns |= _steering_columns(edit, dataset.types)
    for word, condition in dataset.conditions.items():
        rng = PortableRandom(f"condition {word} {edit.edit_type} {seed}")
        for column, value in condition.row(edit, rng).items():
            columns[column] = _stored(out, column, row, value)
    return json.dumps(columns)


def _stored(out: Path, column: str, row: int, value: Value) -> object:
    """Returns a value as the table has it: pictures are written, and their URIs stand for them."""
    folder = column.removesuffix("_uris").removesuffix("_uri")
    if isinstance(value, Image.Image):
        return _save(out, f"{folder}/{row:06d}.png", value)
    if isinstance(value, tuple):
        return [
            _save(out, f"{folder}/{row:06d}-{number}.png", picture)
            for number, picture in enumerate(value)
        ]
    return value


def _save(out: Path, uri: str, picture: Image.Image) -> str:
    path = out / uri
    path.parent.mkdir(exist_ok=True)
    picture.save(path)
    return uri


def _steering_columns(edit: DrawnEdit, types: tuple[EditType, ...]) -> dict[str, object]:
    """Returns `boxes` and `points` where any type of the dataset has them: rows are alike."""
    columns: dict[str, object] = {}
    if BOX_TYPES.intersection(types):
        columns["boxes"] = layout(edit) if edit.edit_type in BOX_TYPES else None
    if POINT_TYPES.intersection(types):
        points = edit.drag_points
        columns["points"] = None if points is None else [list(point) for point in points]
    return columns
