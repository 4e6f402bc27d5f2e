"""Pictures that are no scenes, for an autoencoder that has to encode them too.

Masks, segmentation maps, sketches, reference crops, and scenes with a region in mid grey.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw_pixels, footprint, item_mask, num_items
from overpaint.jobs.papercut.scene import Scene
from overpaint.jobs.papercut.views import reference_crop, segmentation_image, sketch
from overpaint.jobs.training.examples import mixture_scene, rgb
from overpaint.jobs.training.parallel.regions import NUM_PRECISIONS, context_mask, object_mask

# 0 in the range from -1 to 1, rounded.
MID_GREY = 128

_Picture = NDArray[np.uint8]


def view_image(index: int) -> _Picture:
    """Returns picture number `index`, RGB uint8 HWC; the sorts of pictures alternate."""
    scene = mixture_scene(index, split="train")
    return _VIEWS[index % len(_VIEWS)](scene, np.random.default_rng([index, 4]))


def mask_image(mask: _Picture) -> _Picture:
    """Returns a mask (uint8 HW, 0 or 255) as a picture, white on black, RGB uint8 HWC."""
    return np.repeat(mask[..., None], 3, axis=2)


def _mask(scene: Scene, rng: np.random.Generator) -> _Picture:
    return mask_image(item_mask(scene, _item(scene, rng)))


def _segmentation(scene: Scene, rng: np.random.Generator) -> _Picture:
    return rgb(segmentation_image(scene))


def _sketch(scene: Scene, rng: np.random.Generator) -> _Picture:
    return rgb(sketch(scene))


def _reference(scene: Scene, rng: np.random.Generator) -> _Picture:
    return rgb(reference_crop(scene, _item(scene, rng)))


def _masked(scene: Scene, rng: np.random.Generator) -> _Picture:
    if rng.random() < 0.5:
        mask = context_mask(rng)
    else:
        shape = footprint(scene, _item(scene, rng))
        mask = object_mask(shape, int(rng.integers(NUM_PRECISIONS)), rng)
    return np.where(mask[..., None] > 0, np.uint8(MID_GREY), draw_pixels(scene))


def _item(scene: Scene, rng: np.random.Generator) -> int:
    return int(rng.integers(num_items(scene)))


_VIEWS: tuple[Callable[[Scene, np.random.Generator], _Picture], ...] = (
    _mask,
    _segmentation,
    _sketch,
    _reference,
    _masked,
)
