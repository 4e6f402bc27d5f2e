"""Datasets of drawn pictures: sources, edit instructions, masks and the true edited pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

from overpaint.jobs.papercut.changes import EDIT_TYPES, EditType
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import DrawnEdit, sample_edit
from overpaint.jobs.papercut.scene import Split
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
) -> None:
    """Writes images/, masks/, targets/ and rows.jsonl; equal arguments give equal bytes.

    A row has `source_uri`, `instruction`, `source_prompt`, `target_prompt`, `edit_type`,
    `mask_uri`, `target_uri` and `mask_phrase`; where one of the types has them also `boxes` (label
    and left, top, right, bottom of the target's items) and `points` (from x, y to x, y), null for
    the others.

    Args:
        out: folder that is empty or does not exist yet.
        rows: number of rows, at least 1; the edit types alternate.
        seed: any integer; each gives another dataset.
        edit_types: some of the 12, or "all" alone.
        split: split whose content the sources show.

    Raises:
        ValueError: `out` is not an empty folder, `rows` is below 1, or an edit type is unknown.

    Example:
        >>> write_dataset(Path("drawn"), rows=24, seed=0, edit_types=["all"])
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; it must be at least 1")
    types = parse_edit_types(edit_types)
    _prepare(out)
    lines = [_write_row(out, row, seed, types, split) for row in range(rows)]
    (out / ROWS_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


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


def _steering_columns(edit: DrawnEdit, types: tuple[EditType, ...]) -> dict[str, object]:
    """Returns `boxes` and `points` where any type of the dataset has them: rows are alike."""
    columns: dict[str, object] = {}
    if BOX_TYPES.intersection(types):
        boxes = [{"label": box.label, "box": list(box[:4])} for box in edit.boxes]
        columns["boxes"] = boxes if edit.edit_type in BOX_TYPES else None
    if POINT_TYPES.intersection(types):
        points = edit.drag_points
        columns["points"] = None if points is None else [list(point) for point in points]
    return columns
