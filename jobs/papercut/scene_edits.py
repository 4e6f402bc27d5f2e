"""Edits of what fills the picture: background, style, expression, pose and viewpoint."""

from __future__ import annotations

from dataclasses import replace

from overpaint.jobs.papercut.changes import (
    Draft,
    DragPoint,
    backdrop_mask,
    features_mask,
    mask_of,
    whole_mask,
)
from overpaint.jobs.papercut.draw import num_items
from overpaint.jobs.papercut.sample import (
    Dice,
    fits,
    sample_background,
    sample_family,
    sample_objects,
)
from overpaint.jobs.papercut.scene import (
    EXPRESSIONS,
    FAMILIES,
    POSES,
    STYLES,
    VIEWPOINTS,
    Car,
    Face,
    Figure,
    House,
    Scene,
)
from overpaint.jobs.papercut.views import pose_points
from overpaint.jobs.papercut.words import background_noun, phrase, style_noun, with_article


def change_background(dice: Dice) -> Draft | None:
    """The same items on another sheet; None where they would not stand out."""
    source = _any_scene(dice)
    target = replace(source, background=sample_background(dice, landscape_percent=35))
    if target.background == source.background or not fits(target):
        return None
    new = background_noun(target.background)
    return Draft(
        source=source,
        target=target,
        phrasings=(
            f"change the background to {new}",
            f"replace the background with {new}",
            f"make the background {new}",
        ),
        mask_phrase="background",
        mask=backdrop_mask(source, num_items(source)),
    )


def change_style(dice: Dice) -> Draft:
    """The whole picture in another style."""
    source = _any_scene(dice)
    target = replace(source, style=dice.pick(STYLES[1:]))
    new = style_noun(target.style)
    return Draft(
        source=source,
        target=target,
        phrasings=(
            f"make it {new}",
            f"turn the picture into {new}",
            f"redraw the whole image as {new}",
            f"change the style to {new}",
        ),
        mask_phrase="",
        mask=whole_mask(),
    )


def change_expression(dice: Dice) -> Draft:
    """The same face with another expression."""
    source = sample_family(dice, "face")
    face = source.subject
    assert isinstance(face, Face)
    new = dice.pick([name for name in EXPRESSIONS if name != face.expression])
    target = replace(source, subject=replace(face, expression=new))
    return Draft(
        source=source,
        target=target,
        phrasings=(
            f"make the face {new}",
            f"change the expression to {new}",
            f"give the face {with_article(new)} expression",
        ),
        mask_phrase=phrase(source, 0),
        mask=features_mask(source, target),
    )


def change_pose(dice: Dice) -> Draft:
    """The same person in another pose."""
    source = sample_family(dice, "figure")
    figure = source.subject
    assert isinstance(figure, Figure)
    new = dice.pick([name for name in POSES if name != figure.pose])
    target = replace(source, subject=replace(figure, pose=new))
    joints = zip(pose_points(source), pose_points(target), strict=True)
    return Draft(
        source=source,
        target=target,
        phrasings=(
            f"show the person {new}",
            f"change the pose to {new}",
            f"make it {with_article(new)} person",
        ),
        mask_phrase=phrase(source, 0),
        mask=mask_of(source, 0, target, 0),
        drag_points=tuple(
            DragPoint(before.x_px, before.y_px, after.x_px, after.y_px) for before, after in joints
        ),
    )


def change_viewpoint(dice: Dice) -> Draft:
    """The same house or car seen from another side."""
    source = sample_family(dice, dice.pick(("house", "car")))
    subject = source.subject
    assert isinstance(subject, House | Car)
    new = dice.pick([name for name in VIEWPOINTS if name != subject.view])
    target = replace(source, subject=replace(subject, view=new))
    noun = "house" if isinstance(subject, House) else "car"
    return Draft(
        source=source,
        target=target,
        phrasings=(
            f"show the {noun} from the {new}",
            f"change the view to the {new}",
            f"turn the {noun} to see the {new}",
        ),
        mask_phrase=phrase(source, 0),
        mask=mask_of(source, 0, target, 0),
    )


def _any_scene(dice: Dice) -> Scene:
    family = "objects" if dice.percent(70) else dice.pick(FAMILIES[1:])
    return sample_objects(dice) if family == "objects" else sample_family(dice, family)
