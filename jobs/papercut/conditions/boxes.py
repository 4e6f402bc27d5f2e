"""Boxes: the layout of the edited picture."""

from typing import ClassVar

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom


class Boxes(DrawnCondition):
    """Layout of the target, of every edit type.

    `boxes`: one entry for each item of the target, from back to front. `label` is its referring
    expression, such as "red star"; `box` is left, top, right and bottom in pixels of the source,
    the latter two one past the item, whose shadow is outside. The list is empty where the target
    shows nothing but its background.
    """

    columns: ClassVar[tuple[str, ...]] = ("boxes",)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the layout of the target."""
        del rng
        return {"boxes": layout(edit)}


def layout(edit: DrawnEdit) -> list[dict[str, object]]:
    """Returns the items of an edit's target as tables have them: `label` and `box`."""
    return [{"label": box.label, "box": list(box[:4])} for box in edit.boxes]
