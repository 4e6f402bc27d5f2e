"""Segmentation: label maps of the edited picture and of its source."""

from typing import ClassVar

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.views import segmentation_image


class Segmentation(DrawnCondition):
    """Label maps, of every edit type.

    Both are RGB, of the source's size, one colour for each of `views.CLASSES`: black for the
    background, the others by kind of object, face, figure, house and car. They lie over the source.

    - `segmentation_uri`: the target's
    - `source_segmentation_uri`: the source's, for methods that edit by what differs
    """

    columns: ClassVar[tuple[str, ...]] = ("segmentation_uri", "source_segmentation_uri")

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the label maps of target and source."""
        del rng
        return {
            "segmentation_uri": segmentation_image(edit.target),
            "source_segmentation_uri": segmentation_image(edit.source),
        }
