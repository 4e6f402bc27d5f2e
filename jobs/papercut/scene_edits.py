"""Drafts of edits of a whole scene: background, style, expression, pose and viewpoint."""

from dataclasses import replace

from overpaint.jobs.papercut.changes import (
    Draft,
    DragPoint,
    backdrop_mask,
    changed_mask,
    features_mask,
    whole_mask,
)
from overpaint.jobs.papercut.draw import num_items
from overpaint.jobs.papercut.sample import (
    PortableRandom,
    is_legible,
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


def change_background(rng: PortableRandom) -> Draft | None:
    """Drafts another background; None where the items would not stand out from it."""
    source = _sample_source(rng)
    target = replace(source, background=sample_background(rng, landscape_percent=35))
    if target.background == source.background or not is_legible(target):
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


def change_style(rng: PortableRandom) -> Draft:
    """Drafts another style of the whole picture."""
    source = _sample_source(rng)
    target = replace(source, style=rng.choice(STYLES[1:]))
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


def change_expression(rng: PortableRandom) -> Draft:
    """Drafts another expression of a face."""
    source = sample_family(rng, "face")
    face = source.subject
    assert isinstance(face, Face)
    new = rng.choice([name for name in EXPRESSIONS if name != face.expression])
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


def change_pose(rng: PortableRandom) -> Draft:
    """Drafts another pose of a person."""
    source = sample_family(rng, "figure")
    figure = source.subject
    assert isinstance(figure, Figure)
    new = rng.choice([name for name in POSES if name != figure.pose])
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
        mask=changed_mask(source, 0, target, 0),
        drag_points=tuple(
            DragPoint(before.x_px, before.y_px, after.x_px, after.y_px) for before, after in joints
        ),
    )


def change_viewpoint(rng: PortableRandom) -> Draft:
    """Drafts another viewpoint of a house or a car."""
    source = sample_family(rng, rng.choice(("house", "car")))
    subject = source.subject
    assert isinstance(subject, House | Car)
    new = rng.choice([name for name in VIEWPOINTS if name != subject.view])
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
        mask=changed_mask(source, 0, target, 0),
    )


def _sample_source(rng: PortableRandom) -> Scene:
    family = "objects" if rng.chance(70) else rng.choice(FAMILIES[1:])
    return sample_objects(rng) if family == "objects" else sample_family(rng, family)
