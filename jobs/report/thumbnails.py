"""Small pictures of a run's images, as `data:` URIs.

Everything that an image says of itself may be wrong or hostile: one that cannot be read or decoded
is None, never an error.
"""

import io
import threading
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode, open_image, upright
from overpaint.pipeline.runs.folder import RunFolder
from PIL import Image

CRISP_PX = 128
"""Images no larger than this are kept pixel for pixel, and drawn with hard pixels."""
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
    """Images of a run, small: stored ones, and the sources that the run was allowed to read.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._images = RunImages(folder)
        self._outages: dict[str, int] = {}

    def uris(self, row: Mapping[str, Any]) -> dict[str, str | None]:
        """Returns the URIs of a row's source, mask and edited image; None for one it lacks."""
        return {
            "source": self._images.uri(row, "source_image"),
            "mask": self._images.uri(row, "mask_image"),
            "edited": self._images.uri(row, "edited_image"),
        }

    def open(self, uri: str | None, side_px: int) -> Image.Image | None:
        """Reads an image, upright, RGB, no larger than `side_px` a side.

        Returns:
            The image; None where it cannot be read or decoded.
        """
        if uri is None:
            return None
        host = uri.split("/", 3)[2] if "://" in uri else ""
        if self._outages.get(host, 0) >= _MAX_OUTAGES:
            return None
        try:
            return small_image(self._images.read(uri), side_px)
        except (FileNotFoundError, PermissionError, RowError):
            return None
        except Exception:  # noqa: BLE001
            # A report must not fail for a picture, whatever a filesystem or a decoder raises; and
            # a host that does not answer must not be asked for every row.
            self._outages[host] = self._outages.get(host, 0) + bool(host)
            return None


def small_image(data: bytes, side_px: int) -> Image.Image:
    """Decodes an image as it is seen, upright, RGB, no larger than `side_px` a side.

    Raises:
        RowError: it cannot be decoded.
    """
    image = open_image(data)
    if image.width * image.height <= _LARGE_PIXELS:
        return _reduced(image, data, side_px)
    with _ONE_BY_ONE:
        return _reduced(image, data, side_px)


def _reduced(image: Image.Image, data: bytes, side_px: int) -> Image.Image:
    has_own_grey = image.mode == "L" and "icc_profile" in image.info
    if image.format == "JPEG" and image.mode in ("L", "RGB") and not has_own_grey:
        # A JPEG decoder can skip most of the work where an eighth of the size will do.
        image.draft("RGB", (2 * side_px, 2 * side_px))
        seen = _decoded(image)
    else:
        seen = decode(data).image()
    seen.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return seen


def _decoded(image: Image.Image) -> Image.Image:
    try:
        return upright(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise RowError("image_unreadable", "it cannot be shown") from error


def thumbnail_side(num_rows: int) -> int:
    """Returns the side of thumbnails in a gallery, in pixels: few rows are shown larger."""
    return next((side for rows, side in _SIDES_PX if num_rows <= rows), _SMALLEST_SIDE_PX)


def thumbnail(image: Image.Image, max_bytes: int, *, is_mask: bool = False) -> Thumbnail:
    """Encodes a small image in about `max_bytes` at most.

    Args:
        image: RGB image.
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
                for name, uri in reader.uris(row).items()
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

        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            self.thumbnails = list(pool.map(make, numbers))
