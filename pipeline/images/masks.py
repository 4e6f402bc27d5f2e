"""Masks and maps of weights: what their numbers mark, and whether they fit their source.

They are decoded as pictures are, but the numbers count as they are: no profile changes them.
"""

from typing import Any

import numpy as np
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images.colour import channels, converted, pixels
from overpaint.pipeline.images.depth import is_16_bit, is_deep
from overpaint.pipeline.images.picture import Loaded, Pixels
from overpaint.pipeline.images.reading import MAX_PIXELS, load, naming_breaks
from PIL import Image

MAY_CHANGE = 128
"""Least value of a mask's pixel that may change."""
_EXACT_FORMATS = ("PNG", "GIF", "BMP", "DIB", "TIFF", "PPM")
"""Formats that keep each value; in others, a value of 1 may be noise of what was 0."""
_MOST_ASKEW = 0.1
"""Share by which proportions may differ where a side has few pixels."""


def decode_mask(
    data: bytes,
    width_px: int,
    height_px: int,
    *,
    is_turned: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Decodes a mask to uint8 HW; one of the source's proportions is scaled to its size.

    Args:
        data: an encoded image; see `decode_weights`.
        width_px: width of the upright source.
        height_px: height of the upright source.
        is_turned: True where the source is stored on its side.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        RowError: `mask_unreadable`, `mask_too_large`, `mask_ambiguous`, `mask_values` or
            `mask_size`.
    """
    try:
        loaded = load(data, max_pixels)
        with naming_breaks(loaded.format):
            values = _weights(loaded)
    except RowError as error:
        raise RowError(_mask_code(error.code), error.message) from error
    _check_marks(values, loaded)
    _check_fits(values, (width_px, height_px), is_turned)
    if values.shape == (height_px, width_px):
        return values
    size = (width_px, height_px)
    return pixels(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def decode_weights(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes a map of weights to uint8 HW of its own size, 0 for none and 255 for all.

    Weights are the brightness, or the alpha channel where the colours are all one. Values that are
    all 0 or 1 of 255 are labels, which become 0 and 255.

    Raises:
        RowError: as `decode` does, or `mask_ambiguous`: colours and alpha mark different regions.
    """
    loaded = load(data, max_pixels)
    with naming_breaks(loaded.format):
        return _weights(loaded)


def _weights(loaded: Loaded) -> Pixels:
    colours, alpha, _ = channels(loaded)
    grey = pixels(converted(colours, "L"))
    if loaded.format in _EXACT_FORMATS:
        grey = _without_labels(_whole_values(loaded, grey), grey)
        alpha = None if alpha is None else _without_labels(alpha, alpha)
    return grey if alpha is None else _marking(grey, alpha)


def _whole_values(loaded: Loaded, grey: Pixels) -> np.ndarray[Any, Any]:
    """Returns the values of a file before they are scaled to 8 bits, where those are whole."""
    is_scaled = is_deep(loaded.image) and loaded.image.mode != "F"
    return np.asarray(loaded.image) if is_scaled else grey


def _without_labels(values: np.ndarray[Any, Any], grey: Pixels) -> Pixels:
    """Returns weights of which 0 and 1 have become 0 and 255, where there are no others."""
    for labels in (values, grey):
        if labels.max(initial=0) == 1:
            return np.where(labels == 1, np.uint8(255), np.uint8(0))
    return grey


def _marking(grey: Pixels, alpha: Pixels) -> Pixels:
    """Returns which of colours and alpha are the weights."""
    if grey.min() == grey.max() and alpha.min() != alpha.max():
        return alpha
    by_colour, by_alpha = grey >= MAY_CHANGE, alpha >= MAY_CHANGE
    if by_alpha.all() or not by_alpha.any():
        return grey
    if not by_colour.any():
        return alpha
    is_clear = (alpha == 0) | (alpha == 255)
    if np.array_equal(by_colour[is_clear], by_alpha[is_clear]):
        return grey
    raise RowError(
        "mask_ambiguous",
        f"its colours mark {by_colour.mean():.1%} of it and its alpha channel "
        f"{by_alpha.mean():.1%}, not the same: leave one of them out",
    )


def _check_marks(mask: Pixels, loaded: Loaded) -> None:
    """Refuses a mask that marks nothing although it is not black, such as one of labels."""
    if loaded.format not in _EXACT_FORMATS or mask.max(initial=0) >= MAY_CHANGE:
        return
    values = _whole_values(loaded, mask)
    largest = int(values.max(initial=0))
    if largest > 0:
        top = 65535 if is_16_bit(loaded) else 255
        raise RowError(
            "mask_values",
            f"its largest value is {largest} of {top}, and half of that marks what may change: "
            "labels are to be 0 and 255",
        )


def _check_fits(mask: Pixels, source: tuple[int, int], is_turned: bool) -> None:
    height_px, width_px = mask.shape
    size, wanted = f"{width_px}x{height_px} px", "{}x{} px".format(*source)
    if not _fits((width_px, height_px), source):
        hint = ""
        if _fits((height_px, width_px), source):
            hint = "; turned by 90 degrees it would fit"
            if is_turned:
                hint = "; it fits the source as that is stored, on its side: turn it as well"
        raise RowError(
            "mask_size", f"{size} do not have the proportions of the source, {wanted}{hint}"
        )
    if (mask >= MAY_CHANGE).all() and not _is_reduced((width_px, height_px), source):
        raise RowError(
            "mask_size",
            f"{size}, all white, do not say where in the source, {wanted}: a mask of the whole has "
            "its size",
        )


def _fits(size: tuple[int, int], source: tuple[int, int]) -> bool:
    """Tells whether a mask has its source's proportions, but for less than a pixel a side."""
    (width_px, height_px), (source_width_px, source_height_px) = size, source
    if width_px * source_height_px == height_px * source_width_px:
        return True
    askew = (width_px * source_height_px) / (height_px * source_width_px)
    least = max((width_px - 1) / source_width_px, (height_px - 1) / source_height_px)
    most = min((width_px + 1) / source_width_px, (height_px + 1) / source_height_px)
    return least < most and max(askew, 1 / askew) <= 1 + _MOST_ASKEW


def _is_reduced(size: tuple[int, int], source: tuple[int, int]) -> bool:
    """Tells whether one size is the other, divided by a whole number: no cut-out has that."""
    pairs = [sorted(pair) for pair in zip(size, source, strict=True)]
    factor = round(pairs[0][1] / pairs[0][0])
    return all(abs(longer - factor * shorter) <= factor - 1 for shorter, longer in pairs)


def _mask_code(code: str) -> str:
    """Returns a code about an image as one about a mask."""
    reason = code.split("_", 1)[1]
    return f"mask_{reason if reason in ('too_large', 'ambiguous') else 'unreadable'}"
