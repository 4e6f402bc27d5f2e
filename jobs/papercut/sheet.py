"""A sheet of a dataset: its first rows in one picture, every column of theirs that can be seen."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overpaint.jobs.papercut.dataset import ROWS_FILE
from overpaint.jobs.papercut.scene import SIZE_PX
from PIL import Image, ImageDraw, ImageFont

_TILE_PX, _GAP_PX, _LABEL_PX = 2 * SIZE_PX, 6, 166
_WORDS_PX, _LINE_PX, _WRAP = 20, 16, 20
_PAPER, _FRAME, _INK, _MARK = "#ffffff", "#b4b4b0", "#1b1d21", "#d6336c"
_FIRST = ("source_uri", "mask_uri", "target_uri")
_IN_WORDS = ("edit_type", "instruction", "source_prompt", "target_prompt", "mask_phrase")

_Row = Mapping[str, Any]


def dataset_sheet(folder: Path, rows: int = 4) -> Image.Image:
    """Draws the first rows of a dataset: one column of tiles a row, one line a column of the table.

    Boxes are drawn over the target and points over the source; what a row lacks is an empty tile.

    Args:
        folder: one that `write_dataset` has written.
        rows: number of rows at most.

    Returns:
        An RGB image.

    Example:
        >>> dataset_sheet(Path("drawn")).save("conditions.png")
    """
    lines = (folder / ROWS_FILE).read_text(encoding="utf-8").splitlines()[:rows]
    shown = [json.loads(line) for line in lines]
    names = [*_FIRST, *(name for name in shown[0] if name not in (*_FIRST, *_IN_WORDS))]
    strips = [_strip(name, [_tile(folder, name, row) for row in shown]) for name in names]
    header = _strip("", [_words(f"{row['edit_type']}: {row['instruction']}") for row in shown])
    panels = [_stacked((header, *part)) for part in _halves(strips)]
    size = (sum(panel.width for panel in panels), max(panel.height for panel in panels))
    sheet = Image.new("RGB", size, _PAPER)
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number * panels[0].width, 0))
    return sheet


def _strip(name: str, tiles: Sequence[Image.Image]) -> Image.Image:
    """Draws one line: a name, then tiles."""
    step_px = _TILE_PX + _GAP_PX
    height = max(tile.height for tile in tiles) + _GAP_PX
    strip = Image.new("RGB", (_LABEL_PX + len(tiles) * step_px, height), _PAPER)
    _write(strip, (_GAP_PX, 3), [name])
    for number, tile in enumerate(tiles):
        left = _LABEL_PX + number * step_px
        if tile.size == (_TILE_PX, _TILE_PX):  # a white picture has edges too
            strip.paste(_FRAME, (left - 1, 0, left + _TILE_PX + 1, _TILE_PX + 2))
        strip.paste(tile, (left, 1))
    return strip


def _halves(strips: Sequence[Image.Image]) -> tuple[Sequence[Image.Image], Sequence[Image.Image]]:
    """Splits lines into two panels of about one height."""
    half, above = sum(strip.height for strip in strips) / 2, 0
    for number, strip in enumerate(strips):
        if above >= half:
            return strips[:number], strips[number:]
        above += strip.height
    return strips, ()


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    size = (strips[0].width, sum(strip.height for strip in strips))
    panel = Image.new("RGB", size, _PAPER)
    top = 0
    for strip in strips:
        panel.paste(strip, (0, top))
        top += strip.height
    return panel


def _tile(folder: Path, name: str, row: _Row) -> Image.Image:
    """Draws what a row has in one column, by the form of the value."""
    match row[name]:
        case None:
            return _words("null")
        case str(uri) if uri.endswith(".png"):
            return _picture(folder / uri)
        case str(text):
            return _words(text)
        case [str(uri)] if uri.endswith(".png"):
            return _picture(folder / uri)
        case [str(uri), *_] as uris if uri.endswith(".png"):
            return _mosaic([folder / uri for uri in uris])
        case [{"prompt": _}, *_] as concepts:
            signs = ("-" if concept["reverse"] else "+" for concept in concepts)
            texts = (concept["prompt"] for concept in concepts)
            return _words("\n".join(map(" ".join, zip(signs, texts, strict=True))))
        case list(points) if name == "points":
            return _arrows(_picture(folder / row["source_uri"]), points)
        case list(boxes) if name == "boxes":
            return _boxes(_picture(folder / row["target_uri"]), boxes)
        case other:
            return _words(json.dumps(other))


def _picture(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((_TILE_PX, _TILE_PX), Image.Resampling.NEAREST)


def _mosaic(paths: Sequence[Path]) -> Image.Image:
    """Draws the first four pictures, each in a quarter of a tile."""
    tile = Image.new("RGB", (_TILE_PX, _TILE_PX), _PAPER)
    for number, path in enumerate(paths[:4]):
        with Image.open(path) as picture:
            quarter = picture.convert("RGB").resize((SIZE_PX, SIZE_PX))
        tile.paste(quarter, (number % 2 * SIZE_PX, number // 2 * SIZE_PX))
    return tile


def _boxes(tile: Image.Image, boxes: Sequence[_Row]) -> Image.Image:
    pen = ImageDraw.Draw(tile)
    for entry in boxes:
        left, top, right, bottom = (2 * side for side in entry["box"])
        pen.rectangle((left - 1, top - 1, right, bottom), outline=_PAPER, width=4)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_MARK, width=2)
    return tile


def _arrows(tile: Image.Image, points: Sequence[Sequence[int]]) -> Image.Image:
    """Draws a line for each drag, with a ring where it starts and a dot where it ends."""
    pen = ImageDraw.Draw(tile)
    for from_x, from_y, to_x, to_y in points:
        start, end = (2 * from_x, 2 * from_y), (2 * to_x, 2 * to_y)
        pen.line((*start, *end), fill=_MARK, width=2)
        pen.circle(start, 5, outline=_PAPER, width=2)
        pen.circle(end, 3, fill=_MARK, outline=_PAPER)
    return tile


def _words(text: str) -> Image.Image:
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, _WRAP)]
    tile = Image.new("RGB", (_TILE_PX, max(_WORDS_PX, len(lines) * _LINE_PX + 4)), _PAPER)
    _write(tile, (0, 2), lines)
    return tile


def _write(picture: Image.Image, corner: tuple[int, int], lines: Sequence[str]) -> None:
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, line in enumerate(lines):
        pen.text((corner[0], corner[1] + number * _LINE_PX), line, fill=_INK, font=font)
