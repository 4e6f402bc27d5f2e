"""Twins: other scenes that have what an edit brings, such as the same thing elsewhere."""

from dataclasses import replace

from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import (
    PortableRandom,
    content_of,
    is_legible,
    sample_background,
    sample_family,
    split_of,
)
from overpaint.jobs.papercut.scene import (
    FAMILIES,
    MAX_RADIUS_PX,
    SIZE_PX,
    Car,
    Face,
    Figure,
    House,
    Scene,
    Subject,
    Thing,
)
from overpaint.jobs.papercut.thing_edits import CLEAR_RADIUS_PX


def twin_of(edit: DrawnEdit, rng: PortableRandom) -> Scene:
    """Returns another scene that has what an edit brings, and other content than the target.

    It shows the new thing alone, elsewhere, in another size and on another background (where the
    edit removes a thing, that one); or has the new background, style, expression, pose or
    viewpoint. Its content is of the training split where the edit's is.

    Args:
        edit: edit of any type.
        rng: source of the choices.
    """
    while True:
        scene = _draft(edit, rng)
        is_in = split_of(edit.source) == "test" or split_of(scene) == "train"
        if is_in and is_legible(scene) and content_of(scene) != content_of(edit.target):
            return scene


def changed_things(edit: DrawnEdit) -> tuple[Thing | None, Thing | None]:
    """Returns the thing that an edit changes, before and after; None where there is none."""
    before, after = edit.source.things, edit.target.things
    old = next((thing for thing in before if thing not in after), None)
    return old, next((thing for thing in after if thing not in before), None)


def _draft(edit: DrawnEdit, rng: PortableRandom) -> Scene:
    target = edit.target
    match edit.edit_type:
        case "style":
            return replace(sample_family(rng, rng.choice(FAMILIES)), style=target.style)
        case "background":
            scene = sample_family(rng, rng.choice(FAMILIES))
            return replace(scene, background=target.background)
        case "expression" | "pose" | "viewpoint":
            scene = sample_family(rng, target.family)
            assert scene.subject is not None
            return replace(scene, subject=_like(scene.subject, target.subject))
        case _:
            old, new = changed_things(edit)
            thing = new or old
            assert thing is not None
            return _alone(thing, rng)


def _alone(thing: Thing, rng: PortableRandom) -> Scene:
    """Returns a thing in another place and size, on any background."""
    radius = rng.between(CLEAR_RADIUS_PX, MAX_RADIUS_PX)
    x, y = (rng.between(radius + 2, SIZE_PX - 3 - radius) for _ in range(2))
    moved = replace(thing, x_px=x, y_px=y, radius_px=radius)
    return Scene(background=sample_background(rng), things=(moved,))


def _like(other: Subject, wanted: Subject | None) -> Subject:
    """Returns another subject with the expression, pose or view of the wanted one."""
    match other, wanted:
        case Face(), Face():
            return replace(other, expression=wanted.expression)
        case Figure(), Figure():
            return replace(other, pose=wanted.pose)
        case (House(), House()) | (Car(), Car()):
            return replace(other, view=wanted.view)
        case _:
            raise AssertionError("a family has subjects of one class")
