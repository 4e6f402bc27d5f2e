"""Points: from where to where the edit drags, and what it leaves in its place."""

from typing import ClassVar

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.scene import Scene
from overpaint.jobs.papercut.views import pose_points


class Points(DrawnCondition):
    """Drags as in DragGAN, of every edit type.

    `points`: entries of from x, from y, to x and to y, in pixels of the source. A move drags a
    thing's centre, a resize the four ends of its axes, a pose every joint. For other types the
    entries hold still, with `to` equal to `from`: the centres of things and subjects that are in
    source and target, and the joints of a person. The list is empty where nothing is in both.
    """

    columns: ClassVar[tuple[str, ...]] = ("points",)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the drags of the edit, or the places that hold still."""
        del rng
        if edit.drag_points is not None:
            return {"points": [list(point) for point in edit.drag_points]}
        kept = set(_places(edit.target))
        return {"points": [[x, y, x, y] for x, y in _places(edit.source) if (x, y) in kept]}


def _places(scene: Scene) -> list[tuple[int, int]]:
    """Returns the joints of a person, or the centres of other items."""
    joints = [(joint.x_px, joint.y_px) for joint in pose_points(scene)]
    items = scene.things if scene.subject is None else (scene.subject,)
    return joints or [(item.x_px, item.y_px) for item in items]
