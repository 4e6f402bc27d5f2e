"""Masks as run lengths: pairs of a start and a length over the pixels, row by row."""

from typing import Any

import numpy as np
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.images.picture import Pixels


def decode_run_lengths(runs: Any, width_px: int, height_px: int, place: str) -> Pixels:
    """Decodes a mask: start, length, start, length, ... over the pixels from the top left, by rows.

    A run that goes on after the last pixel ends there, as PIE-Bench's own decoder has it.

    Args:
        runs: whole numbers.
        width_px: width of the mask.
        height_px: height of the mask.
        place: place of the row, for errors.

    Returns:
        uint8 HW, 255 inside of a run.

    Raises:
        UsageError: not pairs of whole numbers, or a run begins outside of the mask.
    """
    numbers = _numbers(runs, place)
    flat = np.zeros(width_px * height_px, np.uint8)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if not 0 <= start <= flat.size or length < 0:
            raise UsageError(
                f"{place}: the mask's run {start}, {length} is not inside of its "
                f"{width_px}x{height_px} px"
            )
        flat[start : start + length] = 255
    return flat.reshape(height_px, width_px)


def _numbers(runs: Any, place: str) -> list[int]:
    is_whole = isinstance(runs, list) and all(type(number) is int for number in runs)
    if not is_whole or len(runs) % 2:
        raise UsageError(f"{place}: the mask is not pairs of a start and a length, whole numbers")
    return runs
