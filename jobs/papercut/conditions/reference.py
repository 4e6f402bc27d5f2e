"""Reference: a picture of what is wanted, drawn elsewhere."""

from typing import ClassVar

from overpaint.jobs.papercut.changes import Mask, backdrop_mask, whole_mask
from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.draw import draw, item_mask, num_items
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.scene import Scene
from overpaint.jobs.papercut.twins import twin_of
from overpaint.jobs.papercut.views import reference_crop, reference_crop_alpha
from overpaint.pipeline.edit_types import EditType
from PIL import Image

BRIGHTNESS_PERCENT = (90, 110)

_OF_THINGS: tuple[EditType, ...] = ("add", "replace", "color", "texture")
_OF_SCENES: tuple[EditType, ...] = ("style", "background", "expression", "pose", "viewpoint")


class Reference(DrawnCondition):
    """Picture of what is wanted; null for remove, move and resize, which want nothing new.

    Both are 64 px squares with coordinates of their own, and show another scene than the target.

    - `references`: one picture, RGB. For add, replace, color and texture it is the new thing alone
      on white, cut out of a scene where it has another size and is up to 10 % brighter or darker;
      for style, background, expression, pose and viewpoint a whole scene that has the new one.
    - `reference_mask_uri`: L, 255 where the reference shows it: the thing, face, person, house or
      car, the background, or for a style everything.
    """

    columns: ClassVar[tuple[str, ...]] = ("references", "reference_mask_uri")
    edit_types: ClassVar[tuple[EditType, ...]] = (*_OF_THINGS, *_OF_SCENES)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns a reference and its mask."""
        twin = twin_of(edit, rng)
        if edit.edit_type in _OF_THINGS:
            picture, mask = _of_thing(twin, rng.between(*BRIGHTNESS_PERCENT))
        else:
            picture, mask = draw(twin), Image.fromarray(_shown(edit.edit_type, twin))
        return {"references": (picture,), "reference_mask_uri": mask}


def _of_thing(twin: Scene, brightness_percent: int) -> tuple[Image.Image, Image.Image]:
    crop, alpha = reference_crop(twin, 0), reference_crop_alpha(twin, 0)
    lit = crop.point([min(255, value * brightness_percent // 100) for value in range(256)] * 3)
    mask = alpha.point([255 if value >= 128 else 0 for value in range(256)])
    return Image.composite(lit, crop, alpha), mask


def _shown(edit_type: EditType, twin: Scene) -> Mask:
    """Returns the pixels of a scene that show what an edit brings."""
    match edit_type:
        case "style":
            return whole_mask()
        case "background":
            return backdrop_mask(twin, num_items(twin))
        case _:
            return item_mask(twin, 0)
