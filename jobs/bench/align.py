"""Alignment beside known shifts and scales: of drawn edits and of photographs.

The photographs are those that come with scikit-image. They are shifted by their spectra and scaled
by Pillow, neither of which the measure uses, and cut out of their middle, so that true pixels come
in at the borders.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from overpaint.jobs.papercut.dataset import SEEDS_PER_DATASET
from overpaint.jobs.papercut.draw import draw_pixels
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.operators.measures.alignment import Alignment, measure_alignment
from overpaint.operators.measures.pair import Pair
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.images import Pixels
from PIL import Image

HOW = """\
papercut: true edited pictures of the test split as they are, and shifted by one pixel to a side.
`auc` is how well align_shift_px tells them apart (0.5 by chance), of the rows that were measured;
`auc_all` counts a row without a measure as one without a shift. photographs: scikit-image's,
shifted by 0.1 to 8 px or scaled by 0.8 to 1.25, also with a fifth of the edit replaced, under a
mask or none. Errors are px of the source; scale errors are shares."""

SHIFTS_PX = (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 8.0)
SCALES = (0.8, 0.85, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.18, 1.25)
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "brick", "gravel", "coins")
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))
_BORDER_PX = 24


class _Case(NamedTuple):
    """A pair whose alignment is known.

    Attributes:
        pair: pictures.
        dx_px: true shift to the right.
        dy_px: true shift downwards.
        scale: true scale.
    """

    pair: Pair
    dx_px: float = 0.0
    dy_px: float = 0.0
    scale: float = 1.0


def measure_align(
    num_edits: int, photographs: Sequence[str] = PHOTOGRAPHS, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Yields figures of drawn edits by type, and of photographs by what was done to them.

    Args:
        num_edits: drawn edits of each type.
        photographs: names in `skimage.data`.
        seed: another one gives other edits.
    """
    for with_mask in (True, False):
        scores = {kind: _drawn_scores(kind, num_edits, seed, with_mask) for kind in EDIT_TYPES}
        for kind, of_kind in scores.items():
            yield _drawn_figures(kind, of_kind, with_mask)
        yield _drawn_figures("all", [each for one in scores.values() for each in one], with_mask)
    for edited in ("", "patch, mask", "patch, no mask"):
        for name in photographs:
            pixels = photograph(name)
            yield _photo_figures(f"{name}: shift", edited, shifted_cases(pixels, edited))
            yield _photo_figures(f"{name}: scale", edited, scaled_cases(pixels, edited))


def photograph(name: str) -> Pixels:
    """Returns a picture of scikit-image, RGB uint8 HWC."""
    import skimage.data

    pixels: Any = getattr(skimage.data, name)()
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2))


def drawn_pairs(
    kind: Any, num_edits: int, seed: int, *, with_mask: bool
) -> Iterator[tuple[Pair, Pair]]:
    """Yields drawn edits as they are, each beside the same one shifted by a pixel to a side.

    Args:
        kind: one of EDIT_TYPES.
        num_edits: number of edits.
        seed: another one gives other edits.
        with_mask: whether the pairs have the true mask.
    """
    for number in range(num_edits):
        edit = sample_edit(seed * SEEDS_PER_DATASET + number, kind, "test")
        source, target = draw_pixels(edit.source), draw_pixels(edit.target)
        mask = np.asarray(edit.mask) if with_mask else None
        right, down = _SIDES[number % len(_SIDES)]
        padded = np.pad(target, ((1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = target.shape[:2]
        shifted = padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        yield Pair(source, target, mask), Pair(source, np.ascontiguousarray(shifted), mask)


def _drawn_scores(
    kind: Any, num_edits: int, seed: int, with_mask: bool
) -> list[tuple[float | None, float | None]]:
    pairs = drawn_pairs(kind, num_edits, seed, with_mask=with_mask)
    return [(shift_px(as_is), shift_px(shifted)) for as_is, shifted in pairs]


def shift_px(pair: Pair) -> float | None:
    """Returns the measured length of a shift; None where it cannot be measured."""
    found = measure_alignment(pair)
    return None if found is None else math.hypot(found.dx_px, found.dy_px)


def _drawn_figures(
    kind: str, scores: Sequence[tuple[float | None, float | None]], with_mask: bool
) -> dict[str, Any]:
    as_is = [each[0] for each in scores]
    shifted = [each[1] for each in scores]
    num_measured = sum(value is not None for value in (*as_is, *shifted))
    known = [[value for value in values if value is not None] for values in (as_is, shifted)]
    zero = [[0.0 if value is None else value for value in values] for values in (as_is, shifted)]
    return {
        "pictures": f"papercut: {kind}",
        "edited": "true edit, mask" if with_mask else "true edit, no mask",
        "rows": 2 * len(scores),
        "measured": num_measured / max(1, 2 * len(scores)),
        "auc": auc(*known),
        "auc_all": auc(*zero),
        "error_px": None,
        "largest_error_px": None,
        "largest_scale_error": None,
    }


def auc(negatives: Sequence[float], positives: Sequence[float]) -> float | None:
    """Returns the share of pairs in which the positive is greater, ties counting half.

    Returns:
        None where one of both is empty.
    """
    if not negatives or not positives:
        return None
    below, above = np.asarray(negatives)[:, None], np.asarray(positives)[None, :]
    return float(((above > below) + 0.5 * (above == below)).mean())


def shifted_cases(pixels: Pixels, edited: str = "") -> Iterator[_Case]:
    """Yields a photograph beside itself, shifted by each of `SHIFTS_PX` in a direction of its own.

    Args:
        pixels: RGB uint8 HWC.
        edited: "", "patch, mask" or "patch, no mask".
    """
    from scipy import ndimage

    spectrum = np.fft.fft2(pixels.astype(np.float64), axes=(0, 1))
    source = _middle(pixels, _BORDER_PX)
    for number, length_px in enumerate(SHIFTS_PX):
        angle = 0.5 + 2.4 * number
        dx_px, dy_px = length_px * math.cos(angle), length_px * math.sin(angle)
        moved = np.stack(
            [
                np.fft.ifft2(ndimage.fourier_shift(spectrum[..., channel], (dy_px, dx_px))).real
                for channel in range(3)
            ],
            axis=2,
        )
        edit = _middle(np.clip(moved + 0.5, 0, 255).astype(np.uint8), _BORDER_PX)
        yield _Case(_with_patch(source, edit, edited), dx_px, dy_px)


def scaled_cases(pixels: Pixels, edited: str = "") -> Iterator[_Case]:
    """Yields a photograph beside itself, scaled about its middle by each of `SCALES`.

    Args:
        pixels: RGB uint8 HWC.
        edited: "", "patch, mask" or "patch, no mask".
    """
    # Sides of which every scale is a whole and even number.
    height, width = (size // 200 * 200 for size in pixels.shape[:2])
    whole = pixels[:height, :width]
    size = (round(width * 0.75) // 2 * 2, round(height * 0.75) // 2 * 2)
    source = _centre(whole, size)
    for scale in SCALES:
        scaled_size = (round(width * scale), round(height * scale))
        image = Image.fromarray(whole).resize(scaled_size, Image.Resampling.BICUBIC)
        yield _Case(_with_patch(source, _centre(np.asarray(image), size), edited), scale=scale)


def _with_patch(source: Pixels, edit: Pixels, edited: str) -> Pair:
    """Returns a pair of which a fifth is another picture: what was there, upside down and blue."""
    if not edited:
        return Pair(source, edit)
    height, width = source.shape[:2]
    rows = slice(height // 5, height // 5 + int(height * 0.45))
    columns = slice(width // 4, width // 4 + int(width * 0.45))
    changed = edit.copy()
    changed[rows, columns] = edit[rows, columns][::-1, :, [2, 0, 1]]
    if edited == "patch, no mask":
        return Pair(source, changed)
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 255
    return Pair(source, changed, mask)


def _middle(pixels: Pixels, border_px: int) -> Pixels:
    return np.ascontiguousarray(pixels[border_px:-border_px, border_px:-border_px])


def _centre(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns the middle of a picture; both sizes are even, so that middles agree."""
    width, height = size
    left, top = (pixels.shape[1] - width) // 2, (pixels.shape[0] - height) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _photo_figures(name: str, edited: str, cases: Iterator[_Case]) -> dict[str, Any]:
    pairs = [(case, measure_alignment(case.pair)) for case in cases]
    found = [(case, one) for case, one in pairs if one is not None]
    errors_px = [_error_px(case, one) for case, one in found]
    scale_errors = [abs(one.scale / case.scale - 1) for case, one in found]
    return {
        "pictures": name,
        "edited": edited or "same",
        "rows": len(pairs),
        "measured": len(found) / len(pairs),
        "auc": None,
        "auc_all": None,
        "error_px": float(np.mean(errors_px)) if found else None,
        "largest_error_px": max(errors_px, default=None),
        "largest_scale_error": max(scale_errors, default=None),
    }


def _error_px(case: _Case, found: Alignment) -> float:
    return math.hypot(found.dx_px - case.dx_px, found.dy_px - case.dy_px)
