"""Examples of the caches: scenes, edits and named masks, drawn from papercut by index.

Nothing here imports torch, so that drawing processes start quickly.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut import words
from overpaint.jobs.papercut.draw import coverage, draw_pixels, item_mask, num_items
from overpaint.jobs.papercut.edits import sample_draft
from overpaint.jobs.papercut.sample import sample_scene
from overpaint.jobs.papercut.scene import COLOURS, KINDS, Family, Scene, Split, Style
from overpaint.jobs.training.cache import Example
from overpaint.pipeline.edit_types import EDIT_TYPES
from PIL import Image

_SEEDS_AN_INDEX = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Subset of scenes that a checkpoint is trained on.

    Attributes:
        families: families of scenes; None for all of them.
        most_things: largest number of things in a scene; None for no limit.
        styles: whole-image styles; None for all of them.
    """

    families: tuple[Family, ...] | None = None
    most_things: int | None = None
    styles: tuple[Style, ...] | None = None

    @property
    def label(self) -> str:
        """Name of the mixture in the names of caches."""
        families = "-".join(self.families) if self.families else "all"
        styles = "-".join(self.styles) if self.styles else "all"
        return f"{families}_{self.most_things or 'any'}_{styles}"

    def holds(self, scene: Scene) -> bool:
        """Tells whether a scene belongs to the mixture."""
        few = self.most_things is None or len(scene.things) <= self.most_things
        return few and (self.styles is None or scene.style in self.styles)


EVERYTHING = Mixture()
SINGLE_OBJECT = Mixture(families=("objects",), most_things=1, styles=("flat",))


def mixture_scene(index: int, *, split: Split, mixture: Mixture = EVERYTHING) -> Scene:
    """Returns scene number `index` of a mixture."""
    for attempt in range(_SEEDS_AN_INDEX):
        scene = sample_scene(index * _SEEDS_AN_INDEX + attempt, split, mixture.families)
        if mixture.holds(scene):
            return scene
    raise ValueError(f"no scene of {mixture} among {_SEEDS_AN_INDEX} seeds of index {index}")


def scene_example(index: int, *, split: Split, mixture: Mixture = EVERYTHING) -> Example:
    """Returns a scene's `image` (RGB uint8 HWC), `captions`, most detailed first, and `ordered`."""
    scene = mixture_scene(index, split=split, mixture=mixture)
    texts = {"captions": words.captions(scene), "ordered": ordered_caption(scene)}
    return Example({"image": draw_pixels(scene)}, texts)


@lru_cache(maxsize=16)
def ordered_caption(scene: Scene) -> str:
    """Returns the most detailed caption, with the things from left to right.

    Other captions name things from back to front, an order that is invisible without overlap.
    """
    things = tuple(sorted(scene.things, key=lambda thing: (thing.x_px, thing.y_px)))
    return words.captions(replace(scene, things=things))[0]


def edit_example(index: int, *, split: Split) -> Example:
    """Returns an edit's `source` and true `target`, and `phrasings` of its instruction.

    The types of edits alternate.
    """
    edit_type = EDIT_TYPES[index % len(EDIT_TYPES)]
    draft = sample_draft(index, edit_type, split)
    images = {"source": draw_pixels(draft.source), "target": draw_pixels(draft.target)}
    return Example(images, {"phrasings": draft.phrasings, "edit_type": edit_type})


def mask_example(index: int, *, split: Split) -> Example:
    """Returns a scene's `image`, the `mask` (uint8 HW, 0 or 255) of an item, and `phrases` for it.

    In training, one example in twelve names an absent item (an empty mask), one the background.
    """
    scene = mixture_scene(index, split=split)
    rng = np.random.default_rng([index, 1])
    item, roll = int(rng.integers(num_items(scene))), int(rng.integers(12))
    if roll == 0 and scene.subject is None and split == "train":
        mask, phrases = np.zeros((64, 64), np.uint8), [_absent_phrase(scene, rng)]
    elif roll == 1 and split == "train":
        mask, phrases = _background_mask(scene), ["the background", "background"]
    else:
        mask, phrases = item_mask(scene, item), item_phrases(scene, item)
    return Example({"image": draw_pixels(scene), "mask": mask}, {"phrases": phrases})


def item_phrases(scene: Scene, item: int) -> list[str]:
    """Returns referring expressions of an item, unique in its scene, the usual one first."""
    short = words.phrase(scene, item)
    if scene.subject is not None:
        return [short, f"the {short}", scene.family, f"the {scene.family}"]
    thing = scene.things[item]
    position = words.POSITION_PHRASES[words.position_of(thing)]
    names = [
        short,
        f"the {short}",
        words.describe_thing(thing),
        f"the {short} {position}",
        f"{short} {position}",
    ]
    if sum(other.kind == thing.kind for other in scene.things) == 1:
        names += [thing.kind, f"the {thing.kind}", f"the {thing.kind} {position}"]
    return names


def _absent_phrase(scene: Scene, rng: np.random.Generator) -> str:
    shown = {(thing.kind, thing.colour) for thing in scene.things}
    while True:
        kind, colour = KINDS[rng.integers(len(KINDS))], COLOURS[rng.integers(len(COLOURS))]
        if (kind, colour) not in shown:
            return f"{colour} {kind}"


def _background_mask(scene: Scene) -> NDArray[np.uint8]:
    covers = [coverage(scene, item) for item in range(num_items(scene))]
    return np.where(np.maximum.reduce(covers) < 128, 255, 0).astype(np.uint8)


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Returns an image as RGB uint8 HWC."""
    return np.asarray(image.convert("RGB"))
