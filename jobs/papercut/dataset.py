"""A folder of drawn pictures with edits to make and the true edited pictures beside them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from overpaint.jobs.papercut.changes import EDIT_TYPES, EditType
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import Edit, sample_edit
from overpaint.jobs.papercut.scene import Split
from PIL import Image

ROWS_FILE = "rows.jsonl"
# Where the layout of the target, or what goes where, says more than the instruction.
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
) -> None:
    """Write images/, masks/, targets/ and rows.jsonl; the same arguments give the same bytes.

    A row has `source_uri`, `instruction`, `source_prompt`, `target_prompt`, `edit_type`,
    `mask_uri`, `target_uri` and `mask_phrase`; where one of the types has them also `boxes` (label
    and left, top, right, bottom of the target's items) and `points` (from x, y to x, y), null for
    the others.

    Args:
        out: A folder that is empty or not there yet.
        rows: How many, at least 1; the edit types take turns.
        seed: Which dataset; any whole number.
        edit_types: Some of the 12, or "all" alone.
        split: Whose content the sources show.

    Raises:
        ValueError: `out` is not an empty folder, `rows` is below 1, or an edit type is unknown.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; it must be at least 1")
    types = parse_edit_types(edit_types)
    _prepare(out)
    lines = [_write_row(out, row, seed, types, split) for row in range(rows)]
    (out / ROWS_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def parse_edit_types(names: Sequence[str]) -> tuple[EditType, ...]:
    """The edit types that names stand for; "all" alone stands for the 12.

    Args:
        names: Some of EDIT_TYPES, or "all".

    Raises:
        ValueError: No name is given, or one is unknown.
    """
    if list(names) == ["all"]:
        return EDIT_TYPES
    if not names:
        raise ValueError(f"edit_types is empty; it must name some of {', '.join(EDIT_TYPES)}")
    return tuple(_edit_type(name) for name in names)


def _edit_type(name: str) -> EditType:
    for known in EDIT_TYPES:
        if name == known:
            return known
    near = difflib.get_close_matches(name, EDIT_TYPES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(EDIT_TYPES)}"
    raise ValueError(f"edit_types has {name!r}, which is no edit type{hint}")


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; it must be an empty folder or not exist")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; name a folder that is empty or does not exist")
    for name in ("images", "masks", "targets"):
        (out / name).mkdir(parents=True)


def _write_row(out: Path, row: int, seed: int, types: tuple[EditType, ...], split: Split) -> str:
    edit = sample_edit(seed * SEEDS_PER_DATASET + row, types[row % len(types)], split)
    name = f"{row:06d}.png"
    draw(edit.source).save(out / "images" / name)
    Image.fromarray(edit.mask).save(out / "masks" / name)
    draw(edit.target).save(out / "targets" / name)
    columns = {
        "source_uri": f"images/{name}",
        "instruction": edit.instruction,
        "source_prompt": edit.source_prompt,
        "target_prompt": edit.target_prompt,
        "edit_type": edit.edit_type,
        "mask_uri": f"masks/{name}",
        "target_uri": f"targets/{name}",
        "mask_phrase": edit.mask_phrase,
    }
    return json.dumps(columns | _steering_columns(edit, types))


def _steering_columns(edit: Edit, types: tuple[EditType, ...]) -> dict[str, object]:
    """Boxes and points where any type of the dataset has them, so that every row has one shape."""
    columns: dict[str, object] = {}
    if BOX_TYPES.intersection(types):
        boxes = [{"label": box.label, "box": list(box[:4])} for box in edit.boxes]
        columns["boxes"] = boxes if edit.edit_type in BOX_TYPES else None
    if POINT_TYPES.intersection(types):
        points = edit.drag_points
        columns["points"] = None if points is None else [list(point) for point in points]
    return columns
