"""Strength map: how much each place may change."""

from typing import ClassVar

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from PIL import Image, ImageChops, ImageFilter

# Twice this far from the mask the map is 0; small things in a background keep a black core.
REACH_PX = 3


class StrengthMap(DrawnCondition):
    """Freedom of each place to change, of every edit type.

    `strength_map_uri`: L, the source's size, from 0, keep, to 255, change freely. It is 255 in the
    mask, falls with the distance from it, and is 0 more than 6 px away; white for a style, whose
    mask is the whole picture. It lies over the source.
    """

    columns: ClassVar[tuple[str, ...]] = ("strength_map_uri",)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the mask with a slope around it."""
        del rng
        mask = Image.fromarray(edit.mask)
        dilated = mask.filter(ImageFilter.MaxFilter(2 * REACH_PX + 1))
        slope = dilated.filter(ImageFilter.BoxBlur(REACH_PX))
        return {"strength_map_uri": ImageChops.lighter(slope, mask)}
