"""Sketch: the outlines of the edited picture."""

from typing import ClassVar

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.views import sketch


class Sketch(DrawnCondition):
    """Outlines of the target, of every edit type.

    `sketch_uri`: L, the source's size, dark lines on white: shapes, places and patterns of what the
    target shows, without its style. It lies over the source.
    """

    columns: ClassVar[tuple[str, ...]] = ("sketch_uri",)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the outlines of the target."""
        del rng
        return {"sketch_uri": sketch(edit.target)}
