"""Reads an encoded image: opens it, turns it upright, and tells why one cannot be read."""

import io
import struct
import warnings
import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

from overpaint.pipeline.errors import RowError
from overpaint.pipeline.image_formats import READ_FORMATS
from overpaint.pipeline.images import colour, png
from overpaint.pipeline.images.completeness import is_complete
from overpaint.pipeline.images.depth import black_is_zero
from overpaint.pipeline.images.latest import Latest
from overpaint.pipeline.images.picture import LARGE_PX, Loaded, Picture
from overpaint.pipeline.images.unreadable import describe
from PIL import ExifTags, Image

MAX_PIXELS = 128_000_000

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""
_FIRST_ON_ITS_SIDE = 5
BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise of a broken file; `UnidentifiedImageError` is an `OSError`."""

# Pillow warns of tags that mean nothing here, and of sizes that `max_pixels` decides about; its
# words name no file. Set once: filters are the process's, and pictures are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes an encoded image; keeps the latest few, since the stages of a group ask in turn.

    Args:
        data: an encoded image in one of `READ_FORMATS`; of several frames or pages, the first.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        RowError: `image_empty`, `image_unreadable`, `image_truncated`, `image_too_large` or
            `image_range`.
    """
    picture = _LATEST.get(data)
    if picture is None:
        picture = _decode(data, max_pixels)
        _LATEST.put(data, picture)
    _check_size(picture.width_px, picture.height_px, max_pixels)
    return picture


def release(images: Iterable[bytes]) -> None:
    """Lets the pictures of encoded images be forgotten first: nobody will ask for them soon."""
    for data in images:
        _LATEST.release(data)


def _decode(data: bytes, max_pixels: int) -> Picture:
    image = open_image(data, max_pixels)
    is_large = image.width * image.height > LARGE_PX
    # Decoding takes a multiple of a picture's memory for a moment.
    with _LARGE_ONES_TURN if is_large else nullcontext():
        loaded = _loaded(image, data)
        with naming_breaks(loaded.format):
            return colour.picture(loaded)


def load(data: bytes, max_pixels: int) -> Loaded:
    """Decodes an encoded image, in its own mode, and turns it upright.

    Raises:
        RowError: `image_empty`, `image_unreadable`, `image_truncated` or `image_too_large`.
    """
    return _loaded(open_image(data, max_pixels), data)


def _loaded(image: Image.Image, data: bytes) -> Loaded:
    image_format = image.format or ""
    with naming_breaks(image_format):
        orientation = _orientation(image)  # a TIFF has none left once it is decoded
        image.load()
        if not is_complete(image, data):
            raise RowError("image_truncated", f"a {image_format} file that lacks its last pixels")
        turned = upright(black_is_zero(image))
    return Loaded(turned, image_format, is_turned=orientation >= _FIRST_ON_ITS_SIDE)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an encoded image and decodes no pixels yet.

    Raises:
        RowError: `image_empty`, `image_unreadable` or `image_too_large`.
    """
    if not data:
        raise RowError("image_empty", "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(png.trimmed(data)), formats=READ_FORMATS)
        png.complete_info(image, data)
    except Image.DecompressionBombError as error:
        raise RowError("image_too_large", "more pixels than any image may have") from error
    except BROKEN as error:
        raise RowError("image_unreadable", describe(data)) from error
    _check_size(*image.size, max_pixels)
    return image


def upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF orientation says; other tags may be as broken as can be.

    `ImageOps.exif_transpose` would write the whole block of tags anew, and fails at odd ones.
    """
    method = _TRANSPOSITIONS.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    """Returns an EXIF orientation, 1 to 8; 1 where the image has none that can be read."""
    if image.format == "JXL":  # its decoder turns it, and leaves the tag as it was
        return 1
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
    except BROKEN:
        return 1
    is_known = isinstance(orientation, int) and orientation in _TRANSPOSITIONS
    return orientation if is_known else 1


def _check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    if width_px * height_px > max_pixels:
        raise RowError(
            "image_too_large", f"{width_px}x{height_px} px is more than max_pixels = {max_pixels}"
        )


@contextmanager
def naming_breaks(image_format: str) -> Generator[None]:
    """Raises what a reader raises of a file that breaks early as a `RowError`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise RowError("image_too_large", str(error)) from error
    except BROKEN as error:
        raise RowError(
            "image_truncated", f"a {image_format} file that ends or breaks early"
        ) from error


_LATEST = Latest(384 * 2**20)
_LARGE_ONES_TURN = Lock()
