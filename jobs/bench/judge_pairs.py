"""Edits of known kinds of drawn scenes, to calibrate judges on: the true one, and six failures.

Each drawn edit comes in every kind that it can have, so that a judge cannot tell kinds by scenes;
half of the edits are a little soft in all kinds, as those of an editor with a VAE are.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.dataset import SEEDS_PER_DATASET
from overpaint.jobs.papercut.draw import draw_pixels
from overpaint.jobs.papercut.edits import DrawnEdit, sample_edit
from overpaint.jobs.papercut.scene import Scene
from overpaint.jobs.training.pairs import degrade, perturb, wrong_edit
from overpaint.pipeline.edit_types import EditType

PairKind = Literal[
    "true", "no-op", "another edit", "over-edited", "done wrongly", "half-done", "shifted"
]
KINDS: tuple[PairKind, ...] = get_args(PairKind)
GOOD: PairKind = "true"

_DONE_SHARE = 0.4
"""Share of the change that a half-done edit has: the truth asks for half of it."""
_SHIFT_PX = (2, 5)

Pixels = NDArray[np.uint8]


class JudgedPair(NamedTuple):
    """Source with an edit of a known kind.

    Attributes:
        kind: kind of the edit.
        edit: drawn edit.
        source: source, RGB uint8 HWC.
        edited: edited picture, RGB uint8 HWC.
    """

    kind: PairKind
    edit: DrawnEdit
    source: Pixels
    edited: Pixels


def sample_pairs(edit_type: EditType, num_edits: int, seed: int) -> Iterator[list[JudgedPair]]:
    """Yields the pairs of each edit of a type, of the test split: the true one first.

    Args:
        edit_type: type of the edits.
        num_edits: number of edits.
        seed: seed of a dataset; another one gives other edits.
    """
    for number in range(num_edits):
        place = seed * SEEDS_PER_DATASET + number
        edit = sample_edit(place, edit_type, "test")
        rng = np.random.default_rng([place, 3])
        source = draw_pixels(edit.source)
        finish = "soft" if number % 2 else "clean"
        drawn: list[tuple[PairKind, Pixels | None]]
        drawn = [(kind, _edited(kind, edit, source, rng)) for kind in KINDS]
        yield [
            JudgedPair(kind, edit, source, degrade(edited, _touched(source, edited), finish, rng))
            for kind, edited in drawn
            if edited is not None
        ]


def _edited(
    kind: PairKind, edit: DrawnEdit, source: Pixels, rng: np.random.Generator
) -> Pixels | None:
    """Returns an edited picture of a kind; None where the edit has none of it."""
    target = draw_pixels(edit.target)
    match kind:
        case "true":
            return target
        case "no-op":
            return source
        case "another edit":
            return _drawn(perturb(edit.source, edit, rng))
        case "over-edited":
            return _drawn(perturb(edit.target, edit, rng))
        case "done wrongly":
            return _drawn(wrong_edit(edit, rng))
        case "half-done":
            return half_done(source, target)
        case "shifted":
            return shifted(target, rng)


def half_done(source: Pixels, target: Pixels) -> Pixels:
    """Returns the edit up to the column that holds two fifths of the squared change."""
    change = ((target.astype(np.float64) - source) ** 2).sum(axis=(0, 2))
    num_columns = int(np.searchsorted(change.cumsum() / change.sum(), _DONE_SHARE)) + 1
    return np.concatenate((target[:, :num_columns], source[:, num_columns:]), axis=1)


def shifted(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Returns a picture moved by two to four pixels each way, its edges repeated."""
    across, down = (int(rng.choice((-1, 1)) * rng.integers(*_SHIFT_PX)) for _ in range(2))
    margin = _SHIFT_PX[1]
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    height, width = picture.shape[:2]
    rows, columns = (
        slice(margin - down, margin - down + height),
        slice(margin - across, margin - across + width),
    )
    return np.ascontiguousarray(padded[rows, columns])


def _drawn(scene: Scene | None) -> Pixels | None:
    return None if scene is None else draw_pixels(scene)


def _touched(source: Pixels, edited: Pixels) -> Pixels:
    """Returns the mask of what differs, uint8 HW, 0 or 255."""
    return np.where((source != edited).any(axis=2), 255, 0).astype(np.uint8)
