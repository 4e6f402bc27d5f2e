"""Small pictures of a run: data URIs for the report, and a contact sheet for people.

Everything an image says of itself may be wrong or hostile: one that cannot be read or decoded is
None, never an error.
"""

import io
import threading
import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from overpaint.jobs.report.data import each_part
from overpaint.jobs.report.rows import Pick, in_turn, read_rows
from overpaint.operators.fetch import Fetch
from overpaint.operators.sources.access import Access, read_source
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import MAX_PIXELS, READ_FORMATS, decode, upright
from overpaint.pipeline.recipe import plan_from_tables
from overpaint.pipeline.runs.folder import RECIPE, RunFolder
from overpaint.pipeline.runs.manifest import ACCEPTED
from overpaint.pipeline.storage.store import read_uri
from overpaint.pipeline.storage.uris import join
from PIL import Image, ImageDraw, ImageFont, ImageOps

CRISP_PX = 128
"""Images no larger than this are kept pixel for pixel, and drawn with hard pixels."""
_PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_LARGE_PIXELS = 16_000_000
_NUM_THREADS = 8
_MAX_OUTAGES = 3
_SIDES_PX = ((60, 480), (160, 320), (320, 224))
_SMALLEST_SIDE_PX = 160
_LEAST_SIDE_PX = 32
_EXACT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("webp", {"lossless": True, "method": 0}),
    # WebP halves the resolution of colours, which shows where single pixels do.
    ("jpeg", {"quality": 92, "subsampling": 0}),
    ("jpeg", {"quality": 80, "subsampling": 0}),
)
_LOSSY: tuple[tuple[str, dict[str, Any]], ...] = tuple(
    ("webp", {"quality": quality, "alpha_quality": quality, "method": 4})
    for quality in (82, 55, 25)
)
_IMAGE_SHARE = 7
"""How many times the bytes of a mask an image may have."""
_OPENING = threading.Lock()
_ONE_BY_ONE = threading.Lock()
"""Held for large images, to bound memory, and around `decode`, whose cache is not for threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture as a `data:` URI."""

    data_uri: str
    width_px: int
    height_px: int
    is_crisp: bool
    """Whether it is the image itself, to be enlarged with hard pixels."""


class Pictures:
    """Reads a run's images.

    Args:
        folder: the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        recipe: dict[str, Any] = folder.read_json(RECIPE) or {}
        self._base_uri = str(recipe.get("base_uri") or "")
        self._access = _access(recipe.get("recipe"), folder.storage.at(RECIPE))
        self._folder = folder
        self._outages: dict[str, int] = {}

    def source_uri(self, row: Mapping[str, Any]) -> str | None:
        """Where a row's source lies; None where there is nothing to read.

        A source is only read again where the run itself has fetched it: one that was forbidden to
        the run is forbidden to its report.
        """
        if not row["source_sha256"]:
            return None
        uri = join(self._base_uri, row["source_uri"])
        return uri if "://" in uri or uri.startswith("/") else None

    def stored_uri(self, path: str | None) -> str | None:
        """Where an image of the run folder lies."""
        return self._folder.storage.at(path) if path else None

    def open(self, uri: str | None, side_px: int) -> Image.Image | None:
        """An image, upright, RGB or RGBA, in `side_px` at most; None where it cannot be had."""
        if uri is None:
            return None
        place = uri.split("/", 3)[2] if "://" in uri else ""
        if self._outages.get(place, 0) >= _MAX_OUTAGES:
            return None
        try:
            return small_image(self._read(uri), side_px)
        except (FileNotFoundError, PermissionError, RowError):
            return None
        except Exception:  # noqa: BLE001
            # A report must not fail for a picture, whatever a filesystem or a decoder raises; and
            # a host that does not answer must not be asked for every row.
            self._outages[place] = self._outages.get(place, 0) + bool(place)
            return None

    def _read(self, uri: str) -> bytes:
        """An image of the run folder, or a source within the limits that the run itself kept to."""
        if uri.startswith(self._folder.storage.at("")):
            return read_uri(uri)
        return read_source(self._base_uri, uri, self._access)


def _access(recipe: Any, file: str) -> Access:
    """What the run was allowed to read; the least where it does not say."""
    try:
        stages = plan_from_tables(recipe, file).stages if recipe else ()
    except UsageError:
        return Access()  # of another version, or its operators are not installed here
    allowed = [stage.operator.access for stage in stages if isinstance(stage.operator, Fetch)]
    return allowed[0] if allowed else Access()


def small_image(data: bytes, side_px: int) -> Image.Image:
    """Decodes an image, upright, RGB or RGBA, no larger than `side_px` a side.

    Raises:
        RowError: it cannot be decoded.
    """
    try:
        image = _opened(data)
        num_pixels = image.width * image.height
        if image.mode not in _PLAIN_MODES:
            with _ONE_BY_ONE:
                image = decode(data).image()
        elif num_pixels > MAX_PIXELS:
            raise RowError("image_too_large", f"{image.width}x{image.height} px")
        elif num_pixels > _LARGE_PIXELS:
            with _ONE_BY_ONE:
                return _reduced(image, side_px)
        return _reduced(image, side_px)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RowError("image_unreadable", "it cannot be shown") from error


def _opened(data: bytes) -> Image.Image:
    # Filters of warnings are the whole process's, so one thread at a time; this reads a header.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=READ_FORMATS)


def _reduced(image: Image.Image, side_px: int) -> Image.Image:
    # A JPEG decoder can skip most of the work where an eighth of the size will do.
    image.draft("RGB", (2 * side_px, 2 * side_px))
    image = upright(image)
    coloured = image.convert("RGBA" if image.has_transparency_data else "RGB")
    coloured.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return coloured


def side_for(num_rows: int) -> int:
    """How large thumbnails are in a gallery of so many rows: few rows may be shown larger."""
    return next((side for rows, side in _SIDES_PX if num_rows <= rows), _SMALLEST_SIDE_PX)


def thumbnail(image: Image.Image, max_bytes: int, *, is_mask: bool = False) -> Thumbnail:
    """Encodes a small image in about `max_bytes` at most.

    Args:
        image: RGB or RGBA.
        max_bytes: of the encoded image; quality, then size, give way.
        is_mask: make it white, with the image's brightness as its opacity.
    """
    if is_mask:
        white = Image.new("L", image.size, 255)
        image = Image.merge("RGBA", (white, white, white, image.convert("L")))
    is_crisp = max(image.size) <= CRISP_PX
    kind, data = _encoded(image, max_bytes, is_exact=is_crisp or is_mask)
    return Thumbnail(
        data_uri=f"data:image/{kind};base64,{b64encode(data).decode()}",
        width_px=image.width,
        height_px=image.height,
        is_crisp=is_crisp,
    )


class _Encoding(NamedTuple):
    kind: str
    data: bytes


def _encoded(image: Image.Image, max_bytes: int, *, is_exact: bool) -> _Encoding:
    attempt = _Encoding("webp", b"")
    for kind, options in (*(_EXACT if is_exact else ()), *_LOSSY):
        if kind == "jpeg" and image.mode != "RGB":
            continue
        out = io.BytesIO()
        image.save(out, kind, **options)
        attempt = _Encoding(kind, out.getvalue())
        if len(attempt.data) <= max_bytes:
            return attempt
    if max(image.size) <= _LEAST_SIDE_PX:
        return attempt
    smaller = (max(1, image.width * 2 // 3), max(1, image.height * 2 // 3))
    return _encoded(image.resize(smaller), max_bytes, is_exact=False)


class Album:
    """The thumbnails of a gallery, each made once however many rows show it.

    Args:
        pictures: where they come from.
        rows: rows of the manifest.
        max_bytes: of all thumbnails together, encoded.
    """

    def __init__(
        self, pictures: Pictures, rows: Sequence[Mapping[str, Any]], max_bytes: int
    ) -> None:
        self.side_px = side_for(len(rows))
        wanted: dict[tuple[str, bool], int] = {}
        self.shown = [
            {
                name: wanted.setdefault((uri, name == "mask"), len(wanted))
                for name, uri in _uris(pictures, row).items()
                if uri is not None
            }
            for row in rows
        ]
        """For each row, the numbers of its thumbnails by `source`, `mask` and `edited`."""
        num_shares = sum(1 if is_mask else _IMAGE_SHARE for _, is_mask in wanted)
        share_bytes = max_bytes // max(1, num_shares)

        def make(one: tuple[str, bool]) -> Thumbnail | None:
            uri, is_mask = one
            image = pictures.open(uri, self.side_px)
            limit = share_bytes * (1 if is_mask else _IMAGE_SHARE)
            return image and thumbnail(image, limit, is_mask=is_mask)

        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            self.thumbnails = list(pool.map(make, wanted))
        """By number; None where an image cannot be shown."""


def _uris(pictures: Pictures, row: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        "source": pictures.source_uri(row),
        "mask": pictures.stored_uri(row["mask_uri"]),
        "edited": pictures.stored_uri(row["edited_uri"]),
    }


_TILE_PX, _GAP_PX, _MARGIN_PX, _TEXT_PX, _PAIRS = 192, 8, 32, 44, 2
_PAPER, _INK, _TINT = "#ffffff", "#1b1d21", (214, 51, 108)


def contact_sheet(folder: RunFolder, rows: int = 6) -> Image.Image:
    """A picture of some accepted edits: source, mask over it, and edited, with the instruction.

    The rows are not chosen for their looks: those with the smallest keys, edit types in turn.

    Args:
        folder: a run with a manifest.
        rows: how many edits, two beside each other.

    Returns:
        An RGB image.
    """
    chosen = read_rows(folder, _accepted(folder, rows))
    pictures = Pictures(folder)
    cell_px = (3 * _TILE_PX + 2 * _GAP_PX, _TILE_PX + _TEXT_PX)
    num_lines = -(-len(chosen) // _PAIRS)
    num_across = min(_PAIRS, len(chosen)) or 1
    sheet = Image.new(
        "RGB",
        (
            num_across * (cell_px[0] + _MARGIN_PX) + _MARGIN_PX,
            num_lines * (cell_px[1] + _MARGIN_PX // 2) + _MARGIN_PX,
        ),
        _PAPER,
    )
    for number, row in enumerate(chosen):
        line, place = divmod(number, num_across)
        left = _MARGIN_PX + place * (cell_px[0] + _MARGIN_PX)
        top = _MARGIN_PX + line * (cell_px[1] + _MARGIN_PX // 2)
        _draw_edit(sheet, (left, top), row, pictures)
    return sheet


def _accepted(folder: RunFolder, num_rows: int) -> list[Pick]:
    found: dict[str, list[Pick]] = {}
    columns = ["key", "status", "edit_type"]
    for part, table in each_part(folder, folder.parts("manifest"), columns):
        for index, row in enumerate(table.to_pylist()):
            if row["status"] == ACCEPTED:
                pick = Pick(0.0, row["key"], part, index)
                found.setdefault(row["edit_type"] or "", []).append(pick)
        found = {name: sorted(picks)[:num_rows] for name, picks in found.items()}
    chosen = in_turn([found[name] for name in sorted(found)], num_rows)
    return sorted(chosen, key=lambda pick: (pick.part, pick.place))


def _draw_edit(
    sheet: Image.Image, corner: tuple[int, int], row: Mapping[str, Any], pictures: Pictures
) -> None:
    left, top = corner
    source = _tile(pictures.open(pictures.source_uri(row), 2 * _TILE_PX))
    mask = pictures.open(pictures.stored_uri(row["mask_uri"]), 2 * _TILE_PX)
    edited = _tile(pictures.open(pictures.stored_uri(row["edited_uri"]), 2 * _TILE_PX))
    masked = _masked(source, _tile(mask)) if source and mask else None
    for place, tile in enumerate((source, masked, edited)):
        x_px = left + place * (_TILE_PX + _GAP_PX)
        if tile is None:
            tile = Image.new("RGB", (_TILE_PX, _TILE_PX), "#f0f0ee")
        sheet.paste(tile, (x_px, top))
    _write(sheet, (left, top + _TILE_PX + 9), str(row["instruction"] or row["target_prompt"] or ""))


def _tile(image: Image.Image | None) -> Image.Image | None:
    """A square of `_TILE_PX`: small images in hard pixels, others smooth, the middle of each."""
    if image is None:
        return None
    is_crisp = max(image.size) <= CRISP_PX
    kind = Image.Resampling.NEAREST if is_crisp else Image.Resampling.LANCZOS
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, _PAPER)
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return ImageOps.fit(image.convert("RGB"), (_TILE_PX, _TILE_PX), kind)


def _masked(source: Image.Image, mask: Image.Image | None) -> Image.Image | None:
    """The source in pale greys with the mask in colour."""
    if mask is None:
        return None
    grey = source.convert("L").point(lambda level: 110 + level * 0.55).convert("RGB")
    tinted = Image.blend(grey, Image.new("RGB", source.size, _TINT), 0.72)
    return Image.composite(tinted, grey, mask.convert("L"))


def _write(sheet: Image.Image, corner: tuple[int, int], text: str) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    width_px = 3 * _TILE_PX + 2 * _GAP_PX
    line = " ".join(text.split())
    while line and draw.textlength(line, font) > width_px:
        line = line[:-2].rstrip(" …") + "…"
    draw.text(corner, line, fill=_INK, font=font)
