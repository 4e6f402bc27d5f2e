"""Colours of any mode to 8-bit RGB: sRGB, or numbers that go with the profile of the file.

RGB keeps its numbers and its ICC profile. What cannot keep its own comes in as sRGB: CMYK and grey
by their profiles, and a PNG that states a gamma, or wider primaries without a profile, by those.
"""

import io
from typing import Any, NamedTuple

import numpy as np
from overpaint.pipeline.images.depth import is_deep, to_8_bit
from overpaint.pipeline.images.picture import Loaded, Picture, Pixels
from PIL import Image, ImageCms

_KEEPING_MODES = ("RGB", "RGBA", "P", "PA")
"""Modes whose profile holds for the RGB that they become."""
_GREY_MODES = ("1", "L", "LA", "La")
_SRGB_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.05
_STRIP_PX = 256

_Matrix = np.ndarray[Any, np.dtype[np.float32]]
_SRGB_TRANSFER = 13
_TO_SRGB: dict[int, _Matrix] = {
    9: np.array(
        [
            [1.6604910, -0.5876411, -0.0728499],
            [-0.1245505, 1.1328999, -0.0083494],
            [-0.0181508, -0.1005789, 1.1187297],
        ],
        np.float32,
    ),
    12: np.array(
        [
            [1.2249402, -0.2249402, 0.0],
            [-0.0420570, 1.0420570, 0.0],
            [-0.0196376, -0.0786360, 1.0982736],
        ],
        np.float32,
    ),
}
"""Linear light of BT.2020 and Display P3 to that of sRGB, by H.273's number of the primaries."""


class Channels(NamedTuple):
    """Numbers of an image, at 8 bits.

    Attributes:
        colours: image of mode RGB, or L where it is grey.
        alpha: opacity, uint8 HW; None where it has none.
        icc_profile: profile of `colours`; None where it has none.
    """

    colours: Image.Image
    alpha: Pixels | None
    icc_profile: bytes | None


def picture(loaded: Loaded) -> Picture:
    """Returns an image as a picture.

    Raises:
        RowError: `image_range`.
    """
    colours, alpha, profile = channels(loaded)
    if colours.mode == "L" and profile is not None:
        colours, profile = _grey_by_profile(colours, profile) or colours, None
    elif profile is None:
        colours = _by_png(colours, loaded.image.info)
    rgb = pixels(converted(colours, "RGB"))
    return Picture(rgb, alpha, profile, loaded.is_turned)


def channels(loaded: Loaded) -> Channels:
    """Returns the numbers of an image, whatever colours they stand for; of CMYK, as sRGB.

    Raises:
        RowError: `image_range`.
    """
    image = loaded.image
    profile: Any = image.info.get("icc_profile")
    profile = profile if profile and isinstance(profile, bytes) else None
    if image.mode == "CMYK":
        srgb = None if profile is None else _by_profile(image, profile)
        return Channels(srgb or image.convert("RGB"), None, None)
    if is_deep(image):
        return Channels(to_8_bit(loaded), _deep_alpha(image), profile)
    is_grey, keeps_profile = image.mode in _GREY_MODES, image.mode in _KEEPING_MODES
    alpha = None
    if image.has_transparency_data:
        image = converted(image, "RGBA")
        alpha = pixels(image.getchannel("A"))
        colours = image.getchannel("R") if is_grey else image.convert("RGB")
    else:
        colours = converted(image, "L" if is_grey else "RGB")
    return Channels(colours, alpha, profile if is_grey or keeps_profile else None)


def converted(image: Image.Image, mode: str) -> Image.Image:
    """Returns an image in a mode; itself where it has that mode, which Pillow would copy."""
    return image if image.mode == mode else image.convert(mode)


def pixels(image: Image.Image) -> Pixels:
    """Returns the pixels of an image of 8 bits, in memory that is theirs."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def _deep_alpha(image: Image.Image) -> Pixels | None:
    """Returns the opacity of grey values of which one is transparent."""
    transparent: Any = image.info.get("transparency")
    if not isinstance(transparent, int):
        return None
    return np.where(np.asarray(image) == transparent, np.uint8(0), np.uint8(255))


def _by_profile(
    image: Image.Image, profile: bytes, flags: ImageCms.Flags = ImageCms.Flags.NONE
) -> Image.Image | None:
    """Returns an image in sRGB; None where its profile is broken, or one of other colours."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError):
        return None


def _grey_by_profile(grey: Image.Image, profile: bytes) -> Image.Image | None:
    """Returns grey values in sRGB, each as exactly as the profile has it; None as above."""
    every = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    srgb = _by_profile(every, profile, ImageCms.Flags.NOOPTIMIZE)
    if srgb is None:
        return None
    tables = (band.tobytes() for band in srgb.split())
    return Image.merge("RGB", [grey.point(list(table)) for table in tables])


def _by_png(colours: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Returns colours in sRGB, by what a PNG says of them in place of a profile."""
    primaries, transfer, *_ = info.get("cicp", (0, 0))
    if primaries in _TO_SRGB and transfer == _SRGB_TRANSFER and colours.mode == "RGB":
        return _by_primaries(colours, _TO_SRGB[primaries])
    gamma: Any = info.get("gamma")
    is_stated = isinstance(gamma, float) and gamma > 0 and not {"srgb", "cicp"} & info.keys()
    if not is_stated or abs(gamma / _SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE:
        return colours
    table = _to_srgb((np.arange(256) / 255) ** (1 / gamma)).tolist()
    return colours.point(table * len(colours.getbands()))


def _by_primaries(colours: Image.Image, matrix: _Matrix) -> Image.Image:
    """Returns colours of other primaries in sRGB; what sRGB has not is clipped."""
    result = np.array(colours)
    values = np.arange(256, dtype=np.float32) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    # In strips: an image may have 10^8 pixels, and floats are four times as large.
    for start in range(0, len(result), _STRIP_PX):
        strip = result[start : start + _STRIP_PX]
        strip[...] = _to_srgb(light[strip] @ matrix.T)
    return Image.fromarray(result)


def _to_srgb(light: np.ndarray[Any, Any]) -> Pixels:
    """Returns linear light, 0 to 1, as numbers of sRGB."""
    light = np.clip(light, 0, 1)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (values * 255 + 0.5).astype(np.uint8)
