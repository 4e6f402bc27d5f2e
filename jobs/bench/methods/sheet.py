"""A sheet of methods: a source of each type of edit, what the best make of it, and the truth."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from overpaint.jobs.bench.methods.cases import find_cases
from overpaint.jobs.bench.methods.drawn_rows import Drawing, DrawnEdits
from overpaint.jobs.bench.methods.running import Runner
from overpaint.pipeline.columns import Row
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.images import decode
from overpaint.pipeline.recipes.method_table import Cell, MethodTable
from PIL import Image, ImageDraw, ImageFont

NUM_BEST = 3
_TILE_PX, _GAP_PX, _TEXT_PX, _LINE_PX, _PANELS = 128, 6, 52, 15, 2
_PAPER, _INK, _WRAP = "#ffffff", "#1b1d21", 21


def methods_sheet(table: MethodTable, *, seed: int = 0) -> Image.Image:
    """Draws the first test edit of each type, by the methods that did best on training scenes.

    Args:
        table: a table of papercut's recipes.
        seed: seed of the edits.

    Returns:
        An RGB image: lines of source, edits and truth, with the method's name above each edit.
    """
    drawing = Drawing()
    runner = Runner(drawing)
    try:
        lines = [_line(runner, table, edit_type, seed) for edit_type in EDIT_TYPES]
    finally:
        drawing.close()
    return _placed(lines)


def best_cells(table: MethodTable, edit_type: str) -> list[Cell]:
    """Returns the best cells of a type, at most one of each method and none of a router."""
    best: dict[str, Cell] = {}
    for cell in table.best(edit_type):
        if cell.method != "auto":
            best.setdefault(cell.method, cell)
    return list(best.values())[:NUM_BEST]


def _line(runner: Runner, table: MethodTable, edit_type: str, seed: int) -> Image.Image:
    edits = DrawnEdits(edit_type=edit_type, split="test", seed=seed, rows=1)
    tiles: list[Image.Image] = []
    row: Row | None = None
    for cell in best_cells(table, edit_type):
        cases = find_cases([cell.recipe], table.checkpoint)
        (row,) = runner.run(next(c for c in cases if c.mask == cell.mask), edits).rows
        name = textwrap.wrap(cell.method.replace("_", " "), _WRAP)
        words = [*name, f"{cell.success:.2f}{_MASKS[cell.mask]}"]
        tiles.append(_tile(row.get("edited_image"), words))
    if row is None:
        return Image.new("RGB", (1, 1), _PAPER)
    truth = (Path(row["base_uri"]) / row["target_uri"]).read_bytes()
    empty = [_tile(None, [])] * (NUM_BEST - len(tiles))
    said = textwrap.wrap(f"{edit_type}: {row['instruction']}", _WRAP)[:3]
    return _beside([_tile(row["source_image"], said), *tiles, *empty, _tile(truth, ["truth"])])


_MASKS = {"none": "", "given": ", given mask", "found": ", found mask"}


def _tile(picture: bytes | None, words: Sequence[str]) -> Image.Image:
    """Draws up to three lines of words over a picture."""
    tile = Image.new("RGB", (_TILE_PX + _GAP_PX, _TEXT_PX + _TILE_PX + _GAP_PX), _PAPER)
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default(12)
    for number, line in enumerate(words):
        pen.text((0, 2 + number * _LINE_PX), line, fill=_INK, font=font)
    if picture is not None:
        shown = Image.fromarray(decode(picture).rgb)
        tile.paste(shown.resize((_TILE_PX, _TILE_PX), Image.Resampling.NEAREST), (0, _TEXT_PX))
    return tile


def _beside(tiles: Sequence[Image.Image]) -> Image.Image:
    line = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height), _PAPER)
    for number, tile in enumerate(tiles):
        line.paste(tile, (number * tile.width, 0))
    return line


def _placed(lines: Sequence[Image.Image]) -> Image.Image:
    """Draws lines below each other in panels."""
    width = max(line.width for line in lines) + 2 * _GAP_PX
    height = max(line.height for line in lines)
    rows = -(-len(lines) // _PANELS)
    sheet = Image.new("RGB", (_PANELS * width, rows * height), _PAPER)
    for number, line in enumerate(lines):
        sheet.paste(line, (number // rows * width + _GAP_PX, number % rows * height))
    return sheet
