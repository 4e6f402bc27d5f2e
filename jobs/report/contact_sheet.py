"""A contact sheet of a run: some accepted edits in one picture, for people."""

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
from overpaint.jobs.report.rows import RowReader, SampledRow, round_robin
from overpaint.jobs.report.scan import scan_manifest
from overpaint.jobs.report.thumbnails import CRISP_PX, ImageReader
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import ACCEPTED
from PIL import Image, ImageDraw, ImageFont, ImageOps

_TILE_PX, _GAP_PX, _MARGIN_PX, _TEXT_PX, _PAIRS = 192, 8, 32, 44, 2
_WIDTH_PX = 3 * _TILE_PX + 2 * _GAP_PX
_PAPER, _INK, _TINT = "#ffffff", "#1b1d21", (214, 51, 108)


def contact_sheet(folder: RunFolder, rows: int = 6) -> Image.Image:
    """Draws some accepted edits: source, mask over it, and edited, with the instruction.

    The rows are not chosen for their looks: those with the smallest keys, edit types in turn.

    Args:
        folder: run folder with a manifest.
        rows: number of edits, two beside each other.

    Returns:
        An RGB image.

    Example:
        >>> contact_sheet(RunFolder(Storage("demo-run"))).save("edits.png")
    """
    accepted = _AcceptedRows(rows)
    scan_manifest(folder, [accepted])
    chosen = RowReader(accepted.sample())
    scan_manifest(folder, [chosen])
    reader = ImageReader(folder)
    num_lines = -(-len(chosen.rows) // _PAIRS)
    num_across = min(_PAIRS, len(chosen.rows)) or 1
    step_px = (_WIDTH_PX + _MARGIN_PX, _TILE_PX + _TEXT_PX + _MARGIN_PX // 2)
    size = (num_across * step_px[0] + _MARGIN_PX, num_lines * step_px[1] + _MARGIN_PX)
    sheet = Image.new("RGB", size, _PAPER)
    for number, row in enumerate(chosen.rows):
        line, place = divmod(number, num_across)
        corner = (_MARGIN_PX + place * step_px[0], _MARGIN_PX + line * step_px[1])
        _draw_edit(sheet, corner, row, reader)
    return sheet


class _AcceptedRows:
    """The accepted rows with the smallest keys, by edit type."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._by_type: dict[str, list[SampledRow]] = {}

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        del part, schema
        return ["key", "status", "edit_type"]

    def add_part(self, part: int, table: pa.Table) -> None:
        for offset, row in enumerate(table.to_pylist()):
            if row["status"] == ACCEPTED:
                rows = self._by_type.setdefault(row["edit_type"] or "", [])
                rows.append(SampledRow(0.0, row["key"], part, offset))
        for name, rows in self._by_type.items():
            self._by_type[name] = sorted(rows)[: self._max_rows]

    def sample(self) -> list[SampledRow]:
        groups = [self._by_type[name] for name in sorted(self._by_type)]
        chosen = round_robin(groups, self._max_rows)
        return sorted(chosen, key=lambda row: (row.part, row.offset))


def _draw_edit(
    sheet: Image.Image, corner: tuple[int, int], row: Mapping[str, Any], reader: ImageReader
) -> None:
    left, top = corner
    images = {name: reader.open(uri, 2 * _TILE_PX) for name, uri in reader.uris(row).items()}
    source, mask, edited = (_tile(images[name]) for name in ("source", "mask", "edited"))
    masked = _masked(source, mask) if source and mask else None
    for place, tile in enumerate((source, masked, edited)):
        x_px = left + place * (_TILE_PX + _GAP_PX)
        sheet.paste(tile or Image.new("RGB", (_TILE_PX, _TILE_PX), "#f0f0ee"), (x_px, top))
    text = str(row["instruction"] or row["target_prompt"] or "")
    _write(sheet, (left, top + _TILE_PX + 9), text)


def _tile(image: Image.Image | None) -> Image.Image | None:
    """Cuts the middle square: small images are enlarged in hard pixels, others smoothly."""
    if image is None:
        return None
    is_crisp = max(image.size) <= CRISP_PX
    kind = Image.Resampling.NEAREST if is_crisp else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (_TILE_PX, _TILE_PX), kind)


def _masked(source: Image.Image, mask: Image.Image) -> Image.Image:
    """Draws the source in pale greys with the mask in colour."""
    grey = source.convert("L").point(lambda level: 110 + level * 0.55).convert("RGB")
    tinted = Image.blend(grey, Image.new("RGB", source.size, _TINT), 0.72)
    return Image.composite(tinted, grey, mask.convert("L"))


def _write(sheet: Image.Image, corner: tuple[int, int], text: str) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    line = " ".join(text.split())
    while line and draw.textlength(line, font) > _WIDTH_PX:
        line = line[:-2].rstrip(" …") + "…"
    draw.text(corner, line, fill=_INK, font=font)
