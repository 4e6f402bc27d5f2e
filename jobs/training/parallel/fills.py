"""Examples for an inpainting model: a picture, the region to fill, and words for it.

The label of a task tells the model of the mask and the words: 1 to 4 an item, from its exact shape
to its box (SmartBrush, arXiv 2212.05034), 5 the context alone (PowerPaint, 2312.03594), 6 the whole
scene in words, 7 an item in an otherwise clean picture, 8 a mask to propose (SmartMask,
2312.05039), 9 an item whose colour or texture was taken away (IIR-Net).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut import words
from overpaint.jobs.papercut.changes import Mask, grown, whole_mask
from overpaint.jobs.papercut.draw import draw_pixels, footprint, item_mask, num_items
from overpaint.jobs.papercut.edits import sample_draft
from overpaint.jobs.papercut.scene import Scene
from overpaint.jobs.training.examples import item_phrases, mixture_scene, rgb
from overpaint.jobs.training.parallel.kind import Arrays
from overpaint.jobs.training.parallel.regions import (
    NUM_PRECISIONS,
    box_mask,
    context_mask,
    object_mask,
)
from overpaint.jobs.training.parallel.view_images import mask_image
from overpaint.jobs.training.word_ids import shipped_word_ids
from overpaint.pipeline.edit_types import EditType
from PIL import Image

NUM_FILL_TEXTS = 4
CONTEXT, SCENE, CLEAN_OUTSIDE, MASK_PROPOSAL, ERASED = 5, 6, 7, 8, 9
FILL_SHARES: Mapping[int, float] = {
    **dict.fromkeys(range(1, NUM_PRECISIONS + 1), 0.25 / NUM_PRECISIONS),
    CONTEXT: 0.15,
    SCENE: 0.3,
    CLEAN_OUTSIDE: 0.1,
    MASK_PROPOSAL: 0.1,
    ERASED: 0.1,
}
"""Share of the examples that has each label."""

_EDIT_TYPES: tuple[EditType, ...] = ("replace", "remove", "add", "background", "color", "texture")
_MOST_GROWTH_PX = 4
_NOISE_STD = 25.0

Pixels = NDArray[np.uint8]


class _Fill(NamedTuple):
    """Example before its texts are token ids.

    Attributes:
        target: picture to arrive at, RGB uint8 HWC.
        shown: picture to start from, whole.
        mask: region to fill, uint8 HW, 0 or 255.
        texts: texts that describe what is to be filled in.
        is_masked: whether the model sees `shown` outside the mask only.
    """

    target: Pixels
    shown: Pixels
    mask: Mask
    texts: Sequence[str]
    is_masked: bool = True


def fill_example(index: int) -> Arrays:
    """Returns the arrays of fill number `index` of the training split.

    `target` and `shown` are RGB uint8 HWC, equal outside `mask` (uint8 HW, 1 is to be filled) but
    for MASK_PROPOSAL; `texts` are CLIP's token ids, int16 NT; `task` is the label; where
    `is_masked` is 1, the model may see `shown` outside the mask only.
    """
    rng = np.random.default_rng([index, 3])
    labels, shares = list(FILL_SHARES), np.cumsum(list(FILL_SHARES.values()))
    label = labels[min(int(np.searchsorted(shares, rng.random(), "right")), len(labels) - 1)]
    fill = _SAMPLERS.get(label, _sample_object)(index, label, rng)
    return {
        "target": fill.target,
        "shown": fill.shown,
        "mask": (fill.mask > 0).astype(np.uint8),
        "texts": shipped_word_ids().clip_table(fill.texts, NUM_FILL_TEXTS),
        "task": np.array(label, np.uint8),
        "is_masked": np.array(fill.is_masked, np.uint8),
    }


def _sample_object(index: int, label: int, rng: np.random.Generator) -> _Fill:
    scene, item = _sample_item(index, rng)
    precision = int(rng.integers(NUM_PRECISIONS)) if label == CLEAN_OUTSIDE else label - 1
    picture = draw_pixels(scene)
    mask = object_mask(footprint(scene, item), precision, rng)
    return _Fill(picture, picture, mask, _shuffled(item_phrases(scene, item), rng))


def _sample_context(index: int, label: int, rng: np.random.Generator) -> _Fill:
    picture = draw_pixels(mixture_scene(index, split="train"))
    return _Fill(picture, picture, context_mask(rng), [""])


def _sample_captioned(index: int, label: int, rng: np.random.Generator) -> _Fill:
    if rng.random() < 0.5:
        return _sample_edited(index, rng)
    scene = mixture_scene(index, split="train")
    items = rng.permutation(num_items(scene))
    items = items[: rng.integers(1, len(items) + 1)]
    shape = np.maximum.reduce([footprint(scene, int(item)) for item in items])
    picture = draw_pixels(scene)
    return _Fill(picture, picture, box_mask(shape, rng), words.captions(scene))


def _sample_edited(index: int, rng: np.random.Generator) -> _Fill:
    draft = sample_draft(index, _EDIT_TYPES[rng.integers(len(_EDIT_TYPES))], "train")
    mask = grown(draft.mask, int(rng.integers(_MOST_GROWTH_PX + 1)))
    texts = words.captions(draft.target)
    return _Fill(draw_pixels(draft.target), draw_pixels(draft.source), mask, texts)


def _sample_mask_proposal(index: int, label: int, rng: np.random.Generator) -> _Fill:
    scene, item = _sample_item(index, rng)
    shape = item_mask(scene, item)
    mask = box_mask(shape, rng) if rng.random() < 0.5 else whole_mask()
    things = (*scene.things[:item], *scene.things[item + 1 :])
    before = replace(scene, things=things, subject=None)
    texts = _placed_phrases(scene, item)
    return _Fill(mask_image(shape), draw_pixels(before), mask, texts, is_masked=False)


def _sample_erased(index: int, label: int, rng: np.random.Generator) -> _Fill:
    scene, item = _sample_item(index, rng)
    picture, mask = draw_pixels(scene), footprint(scene, item)
    if rng.random() < 0.5:
        plain = rgb(Image.fromarray(picture).convert("L"))
    else:
        mean = picture[mask > 0].mean(axis=0)
        noise = rng.normal(0.0, _NOISE_STD, picture.shape)
        plain = np.clip(np.rint(mean + noise), 0, 255).astype(np.uint8)
    shown = np.where(mask[..., None] > 0, plain, picture)
    return _Fill(picture, shown, mask, _item_captions(scene, item), is_masked=False)


_SAMPLERS: dict[int, Callable[[int, int, np.random.Generator], _Fill]] = {
    CONTEXT: _sample_context,
    SCENE: _sample_captioned,
    MASK_PROPOSAL: _sample_mask_proposal,
    ERASED: _sample_erased,
}


def _sample_item(index: int, rng: np.random.Generator) -> tuple[Scene, int]:
    scene = mixture_scene(index, split="train")
    return scene, int(rng.integers(num_items(scene)))


def _shuffled(texts: list[str], rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in rng.permutation(len(texts))]


def _placed_phrases(scene: Scene, item: int) -> list[str]:
    """Returns phrases for an item with its place; subjects have none, they fill the picture."""
    if scene.subject is not None:
        return item_phrases(scene, item)
    thing = scene.things[item]
    place = words.POSITION_PHRASES[words.position_of(thing)]
    nouns = (words.phrase(scene, item), words.describe_thing(thing))
    return [f"{text} {place}" for noun in nouns for text in (noun, words.with_article(noun))]


def _item_captions(scene: Scene, item: int) -> list[str]:
    """Returns captions of one item; those of the scene where it is the only one."""
    if scene.subject is not None:
        return words.captions(scene)
    described = words.describe_thing(scene.things[item])
    return [described, words.with_article(described), *_placed_phrases(scene, item)[2:]]
