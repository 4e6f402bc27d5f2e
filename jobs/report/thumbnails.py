"""Small pictures of a run's images, as `data:` URIs.

Everything that an image says of itself may be wrong or hostile: one that cannot be read or decoded
is None, never an error.
"""

import io
import threading
import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from overpaint.operators.fetch import Fetch
from overpaint.operators.sources.access import Access, read_source
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import MAX_PIXELS, READ_FORMATS, decode, upright
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.store import read_uri
from overpaint.pipeline.storage.uris import join
from PIL import Image

CRISP_PX = 128
"""Images no larger than this are kept pixel for pixel, and drawn with hard pixels."""
_PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_LARGE_PIXELS = 16_000_000
_NUM_THREADS = 8
_MAX_OUTAGES = 3
_SIDES_PX = ((60, 480), (160, 320), (320, 224))
_SMALLEST_SIDE_PX = 160
_LEAST_SIDE_PX = 32
_IMAGE_SHARE = 7
"""Bytes that an image may have for each byte of a mask."""
_ONE_BY_ONE = threading.Lock()
"""Held while a large image is decoded, to bound memory."""


class _Encoding(NamedTuple):
    kind: str
    options: dict[str, Any]
    is_exact: bool = False
    """True where single pixels stay what they are, as far as the eye sees."""


_ENCODINGS = (
    _Encoding("webp", {"lossless": True, "method": 0}, is_exact=True),
    # Lossy WebP halves the resolution of colours, which shows where single pixels do.
    _Encoding("jpeg", {"quality": 92, "subsampling": 0}, is_exact=True),
    _Encoding("jpeg", {"quality": 80, "subsampling": 0}, is_exact=True),
    *(
        _Encoding("webp", {"quality": quality, "alpha_quality": quality, "method": 4})
        for quality in (82, 55, 25)
    ),
)
"""Encodings from the best to the smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture.

    Attributes:
        data_uri: encoded picture, as a `data:` URI.
        width_px: width.
        height_px: height.
        is_crisp: True where the picture has the image's own pixels, to be enlarged as squares.
    """

    data_uri: str
    width_px: int
    height_px: int
    is_crisp: bool


class ImageReader:
    """Reads the images of a run: stored ones, and the sources that the run was allowed to read.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        record = RunRecord.find(folder)
        self._folder = folder
        self._base_uri = record.base_uri if record is not None else ""
        self._access = _access(record, folder) if record is not None else Access()
        self._outages: dict[str, int] = {}

    def source_uri(self, row: Mapping[str, Any]) -> str | None:
        """Returns the URI of a row's source; None where there is nothing to read.

        A source is only read again where the run itself has fetched it: one that was forbidden to
        the run is forbidden to its report.
        """
        if not row["source_sha256"]:
            return None
        uri = join(self._base_uri, row["source_uri"])
        return uri if "://" in uri or uri.startswith("/") else None

    def stored_uri(self, path: str | None) -> str | None:
        """Returns the URI of an image in the run folder; None for None."""
        return self._folder.storage.at(path) if path else None

    def open(self, uri: str | None, side_px: int) -> Image.Image | None:
        """Reads an image, upright, RGB or RGBA, no larger than `side_px` a side.

        Returns:
            The image; None where it cannot be read or decoded.
        """
        if uri is None:
            return None
        host = uri.split("/", 3)[2] if "://" in uri else ""
        if self._outages.get(host, 0) >= _MAX_OUTAGES:
            return None
        try:
            return small_image(self._read(uri), side_px)
        except (FileNotFoundError, PermissionError, RowError):
            return None
        except Exception:  # noqa: BLE001
            # A report must not fail for a picture, whatever a filesystem or a decoder raises; and
            # a host that does not answer must not be asked for every row.
            self._outages[host] = self._outages.get(host, 0) + bool(host)
            return None

    def _read(self, uri: str) -> bytes:
        """Reads an image of the run folder, or a source within the limits of the run's fetch."""
        if uri.startswith(self._folder.storage.at("")):
            return read_uri(uri)
        return read_source(self._base_uri, uri, self._access)


def _access(record: RunRecord, folder: RunFolder) -> Access:
    """Returns what the run was allowed to read; the least where its plan cannot be read here."""
    try:
        stages = record.plan(folder).stages
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
        image = Image.open(io.BytesIO(data), formats=READ_FORMATS)
        num_pixels = image.width * image.height
        if num_pixels > MAX_PIXELS:
            raise RowError("image_too_large", f"{image.width}x{image.height} px")
        if num_pixels <= _LARGE_PIXELS:
            return _reduced(image, data, side_px)
        with _ONE_BY_ONE:
            return _reduced(image, data, side_px)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RowError("image_unreadable", "it cannot be shown") from error


def _reduced(image: Image.Image, data: bytes, side_px: int) -> Image.Image:
    if image.mode in _PLAIN_MODES:
        # A JPEG decoder can skip most of the work where an eighth of the size will do.
        image.draft("RGB", (2 * side_px, 2 * side_px))
        image = upright(image)
    else:
        image = decode(data).image()
    coloured = image.convert("RGBA" if image.has_transparency_data else "RGB")
    coloured.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return coloured


def thumbnail_side(num_rows: int) -> int:
    """Returns the side of thumbnails in a gallery, in pixels: few rows are shown larger."""
    return next((side for rows, side in _SIDES_PX if num_rows <= rows), _SMALLEST_SIDE_PX)


def thumbnail(image: Image.Image, max_bytes: int, *, is_mask: bool = False) -> Thumbnail:
    """Encodes a small image in about `max_bytes` at most.

    Args:
        image: RGB or RGBA image.
        max_bytes: size of the encoded image; quality, then resolution, give way.
        is_mask: make the picture white, with the image's brightness as its opacity.
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


def _encoded(image: Image.Image, max_bytes: int, *, is_exact: bool) -> tuple[str, bytes]:
    """Returns the kind and the bytes of the best encoding that is small enough."""
    kind, data = "", b""
    for encoding in _ENCODINGS:
        is_possible = encoding.kind != "jpeg" or image.mode == "RGB"
        if is_possible and (is_exact or not encoding.is_exact):
            out = io.BytesIO()
            image.save(out, encoding.kind, **encoding.options)
            kind, data = encoding.kind, out.getvalue()
            if len(data) <= max_bytes:
                return kind, data
    if max(image.size) <= _LEAST_SIDE_PX:
        return kind, data
    smaller = (max(1, image.width * 2 // 3), max(1, image.height * 2 // 3))
    return _encoded(image.resize(smaller), max_bytes, is_exact=False)


class ThumbnailSheet:
    """The thumbnails of a gallery, each made once however many rows show it.

    Args:
        reader: reader of the run's images.
        rows: rows of the manifest.
        max_bytes: size of all encoded thumbnails together.

    Attributes:
        shown: for each row, the numbers of its thumbnails by `source`, `mask` and `edited`.
        thumbnails: thumbnails by number; None where an image cannot be shown.
    """

    def __init__(
        self, reader: ImageReader, rows: Sequence[Mapping[str, Any]], max_bytes: int
    ) -> None:
        numbers: dict[tuple[str, bool], int] = {}
        self.shown = [
            {
                name: numbers.setdefault((uri, name == "mask"), len(numbers))
                for name, uri in _uris(reader, row).items()
                if uri is not None
            }
            for row in rows
        ]
        num_shares = sum(1 if is_mask else _IMAGE_SHARE for _, is_mask in numbers)
        share_bytes = max_bytes // max(1, num_shares)
        side_px = thumbnail_side(len(rows))

        def make(picture: tuple[str, bool]) -> Thumbnail | None:
            uri, is_mask = picture
            image = reader.open(uri, side_px)
            limit = share_bytes * (1 if is_mask else _IMAGE_SHARE)
            return image and thumbnail(image, limit, is_mask=is_mask)

        # Set here, since filters of warnings are the whole process's.
        with warnings.catch_warnings(), ThreadPoolExecutor(_NUM_THREADS) as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self.thumbnails = list(pool.map(make, numbers))


def _uris(reader: ImageReader, row: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        "source": reader.source_uri(row),
        "mask": reader.stored_uri(row["mask_uri"]),
        "edited": reader.stored_uri(row["edited_uri"]),
    }
