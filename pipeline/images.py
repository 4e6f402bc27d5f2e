"""Bytes to upright 8-bit pixels, and back.

A `Picture` keeps what an editor must not lose: the alpha channel and the ICC profile. Pixels come
in upright (EXIF orientation applied); CMYK and 16-bit images come in as 8-bit sRGB.
"""

import io
import math
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.image_formats import READ_FORMATS
from PIL import ExifTags, Image, ImageCms

MAX_PIXELS = 128_000_000
LARGE_PX = 24_000_000
"""Pictures with more pixels are large: some work is done on a reduced copy of theirs."""
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
PNG_OPTIONS: Mapping[str, Any] = {"compress_type": zlib.Z_RLE}
"""Options of Pillow for the PNG files of pictures.

Over photographs, Z_RLE takes a quarter of the time of Pillow's own level 6 (54 ms a megapixel
instead of 202) for 4 % more bytes; level 1 takes 63 ms for 8 % more.
"""

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
_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise of a broken file; `UnidentifiedImageError` is an `OSError`."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""RGB uint8 HWC or one channel uint8 HW, 0-255."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright image: RGB uint8 HWC; alpha uint8 HW and an ICC profile where it had them.

    Attributes:
        rgb: colours, uint8 HWC.
        alpha: opacity, uint8 HW; None where the image had none.
        icc_profile: colour profile; None where the image had none.

    Example:
        >>> picture = decode(Path("photo.jpg").read_bytes())
        >>> picture.rgb.shape, picture.width_px
    """

    rgb: Pixels
    alpha: Pixels | None = None
    icc_profile: bytes | None = None

    @property
    def width_px(self) -> int:
        """Columns of pixels."""
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        """Rows of pixels."""
        return int(self.rgb.shape[0])

    def image(self) -> Image.Image:
        """Returns the colours as a Pillow RGB image."""
        return Image.fromarray(self.rgb)

    def small_image(self) -> Image.Image:
        """Returns the colours for a model that sees a small square.

        A picture of more than `LARGE_PX` pixels comes reduced by a whole factor: what makes squares
        of it would need gigabytes otherwise.
        """
        image = self.image()
        factor = shrink_factor(self.width_px, self.height_px)
        return image if factor == 1 else image.reduce(factor)


def shrink_factor(width_px: int, height_px: int) -> int:
    """Returns the least whole factor that reduces an image to `LARGE_PX` pixels or fewer."""
    return math.ceil(math.sqrt(max(1.0, width_px * height_px / LARGE_PX)))


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes an encoded image; keeps the latest few, since the stages of a group ask in turn.

    Args:
        data: an encoded image in one of `READ_FORMATS`.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        RowError: `image_empty`, `image_unreadable`, `image_truncated` or `image_too_large`.
    """
    picture = _LATEST.get(data)
    if picture is None:
        picture = _decode(data, max_pixels)
        _LATEST.put(data, picture)
    _check_size(picture.width_px, picture.height_px, max_pixels)
    return picture


def _decode(data: bytes, max_pixels: int) -> Picture:
    if not data:
        raise RowError("image_empty", "the file has no bytes")
    image = _open(data)
    width, height = image.size
    _check_size(width, height, max_pixels)
    try:
        image.load()
        return _picture(upright(image))
    except Image.DecompressionBombError as error:
        raise RowError("image_too_large", f"{width}x{height} px: {error}") from error
    except _BROKEN as error:
        raise RowError(
            "image_truncated", f"a {image.format} file that ends or breaks early"
        ) from error


def upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF orientation says; other tags may be as broken as can be.

    `ImageOps.exif_transpose` would write the whole block of tags anew, and fails at odd ones.
    """
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return image
    method = _TRANSPOSITIONS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    if width_px * height_px > max_pixels:
        raise RowError(
            "image_too_large", f"{width_px}x{height_px} px is more than max_pixels = {max_pixels}"
        )


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The caller's max_pixels decides, with the size in the message.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=READ_FORMATS)
    except Image.DecompressionBombError as error:
        raise RowError("image_too_large", "more pixels than any image may have") from error
    except _BROKEN as error:
        raise RowError("image_unreadable", "not an image in a format that can be read") from error


def _picture(image: Image.Image) -> Picture:
    icc_profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        return Picture(_pixels(_cmyk_to_srgb(image, icc_profile)))
    if image.mode.startswith("I") or image.mode == "F":
        return Picture(_pixels(_to_8_bit(image).convert("RGB")))
    # A profile of grey values means nothing to the RGB that they become.
    keeps_profile = icc_profile and image.mode in ("RGB", "RGBA", "P", "PA")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = _pixels(image.getchannel("A"))
    return Picture(_pixels(image.convert("RGB")), alpha, icc_profile if keeps_profile else None)


def _cmyk_to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own convert would clip it.

    What has more than 16 bits names no range: 0 to 1, 255 or 65535, the least that holds it.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    brightest = values.max(initial=0.0)
    top = 65535.0
    if not image.mode.startswith("I;16") and brightest <= 255.0:
        top = 1.0 if image.mode == "F" and brightest <= 1.0 else 255.0
    return Image.fromarray(np.clip(values * (255.0 / top) + 0.5, 0, 255).astype(np.uint8))


def _pixels(image: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def encode(picture: Picture, image_format: str = "png", quality: int = 95) -> bytes:
    """Encodes a picture with its alpha (not in JPEG, which has none) and ICC profile.

    Args:
        picture: picture to encode.
        image_format: `png`, `jpg` or `webp`.
        quality: 1 to 100, for `jpg` and `webp`.
    """
    image = picture.image()
    if picture.alpha is not None and image_format != "jpg":
        image.putalpha(Image.fromarray(picture.alpha))
    options: dict[str, Any] = dict(PNG_OPTIONS) if image_format == "png" else {"quality": quality}
    if picture.icc_profile:
        options["icc_profile"] = picture.icc_profile
    out = io.BytesIO()
    image.save(out, FORMATS[image_format], **options)
    return out.getvalue()


def encode_mask(mask: Pixels) -> bytes:
    """Encodes a mask (uint8 HW, 255 = may change) as a one-channel PNG."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG", compress_level=6)
    return out.getvalue()


def decode_mask(data: bytes, width_px: int, height_px: int) -> Pixels:
    """Decodes a mask to uint8 HW; one of another size is scaled to the source's.

    Raises:
        RowError: `mask_unreadable`.
    """
    try:
        image = upright(_open(data)).convert("L")
    except (RowError, Image.DecompressionBombError, *_BROKEN) as error:
        raise RowError("mask_unreadable", "the mask is not an image that can be read") from error
    if image.size != (width_px, height_px):
        image = image.resize((width_px, height_px), Image.Resampling.NEAREST)
    return _pixels(image)


class _Latest:
    """Latest decoded pictures that together stay under a number of bytes; always one at least."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self._lock = Lock()

    def get(self, data: bytes) -> Picture | None:
        with self._lock:
            picture = self._pictures.get(data)
            if picture is not None:
                self._pictures.move_to_end(data)
            return picture

    def put(self, data: bytes, picture: Picture) -> None:
        with self._lock:
            if data not in self._pictures:
                self._pictures[data] = picture
                self._num_bytes += _num_bytes(data, picture)
            # The latest stays whatever its size: it is the one that is asked for again.
            while self._num_bytes > self._max_bytes and len(self._pictures) > 1:
                self._num_bytes -= _num_bytes(*self._pictures.popitem(last=False))


def _num_bytes(data: bytes, picture: Picture) -> int:
    alpha = picture.alpha.nbytes if picture.alpha is not None else 0
    return len(data) + picture.rgb.nbytes + alpha


_LATEST = _Latest(256 * 2**20)
