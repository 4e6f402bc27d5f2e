"""Random scenes: a fixed mixture, and a split that keeps test content out of training.

The split depends on the content of a scene (kinds, colours, textures, background, style, face,
pose, view), not on positions: a test scene's content occurs nowhere in training at any position or
size, so a test picture is never a training picture moved by a pixel.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeVar

from overpaint.jobs.papercut.palette import COLOUR_RGB, HAIR_RGB, SKIN_RGB, Rgb, is_near, stands_out
from overpaint.jobs.papercut.scene import (
    COLOURS,
    EXPRESSIONS,
    FAMILIES,
    HAIR_COLOURS,
    HAIR_STYLES,
    KINDS,
    LANDSCAPES,
    MAX_RADIUS_PX,
    MIN_RADIUS_PX,
    PATTERNED,
    POSES,
    SIZE_PX,
    SKIN_TONES,
    STYLES,
    TINTS,
    VIEWPOINTS,
    Background,
    Car,
    Colour,
    Face,
    Family,
    Figure,
    House,
    Scene,
    Split,
    Style,
    Subject,
    Texture,
    Thing,
)

GAP_PX = 3
TEST_SHARE = 16
_BACKGROUND_TRIES = 60
# Mixture of families where the caller names none: 76 of 100 scenes are of objects, and six of seven
# scenes are flat, so that two thirds of all are objects in flat style.
FAMILY_PERCENT: dict[Family, int] = {"objects": 76, "face": 7, "figure": 7, "house": 5, "car": 5}
STYLED_PERCENT = 14

T = TypeVar("T")
_SubjectFamily = Literal["face", "figure", "house", "car"]


class PortableRandom:
    """Random choices that are equal in every Python version: only `random()` is used.

    Args:
        seed: any text.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """Returns an integer from 0 to limit - 1."""
        return int(self._random() * limit)

    def between(self, first: int, last: int) -> int:
        """Returns an integer from first to last, both included."""
        return first + self.below(last - first + 1)

    def chance(self, percent: int) -> bool:
        """Returns True in `percent` of 100 cases."""
        return self.below(100) < percent

    def choice(self, values: Sequence[T]) -> T:
        """Returns one of the values, all equally likely."""
        return values[self.below(len(values))]


def sample_scene(
    seed: int, split: Split = "train", families: Sequence[Family] | None = None
) -> Scene:
    """Returns the scene of a seed.

    Args:
        seed: any integer; equal arguments give equal scenes.
        split: split whose content the scene shows; the two splits share none.
        families: families to draw from, equally likely; None for the mixture of FAMILY_PERCENT.

    Raises:
        ValueError: `families` is empty, or holds an unknown one.

    Example:
        >>> sample_scene(0, families=["car"]).family
        'car'
    """
    if families is not None and (not families or any(name not in FAMILIES for name in families)):
        raise ValueError(
            f"families is {list(families)}; it must name some of {', '.join(FAMILIES)}"
        )
    rng = PortableRandom(f"scene {seed}")
    while True:
        family = rng.choice(families) if families else _mixed_family(rng)
        style: Style = rng.choice(STYLES[1:]) if rng.chance(STYLED_PERCENT) else "flat"
        scene = replace(sample_family(rng, family), style=style)
        if split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> Split:
    """Returns the split of a scene's content; one content in sixteen is for tests."""
    digest = hashlib.blake2b(content_of(scene).encode(), digest_size=4).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_SHARE == 0 else "train"


def content_of(scene: Scene) -> str:
    """Returns a text that names a scene's content, without positions and sizes."""
    background = scene.background
    things = sorted(f"{thing.kind} {thing.colour} {thing.texture}" for thing in scene.things)
    return " | ".join(
        (
            scene.style,
            background.kind,
            background.tint or "",
            *things,
            _subject_content(scene.subject),
        )
    )


def _subject_content(subject: Subject | None) -> str:
    match subject:
        case None:
            return ""
        case Face():
            return f"{subject.expression} {subject.skin} {subject.hair_style} {subject.hair_colour}"
        case Figure():
            looks = f"{subject.shirt} {subject.trousers} {subject.skin} {subject.hair_colour}"
            return f"{subject.pose} {looks}"
        case House():
            return f"house {subject.view} {subject.wall} {subject.roof}"
        case Car():
            return f"car {subject.view} {subject.colour}"


def sample_family(rng: PortableRandom, family: Family) -> Scene:
    """Returns a flat scene of a family, of either split."""
    if family == "objects":
        return sample_objects(rng)
    while True:
        subject, landscape_percent = _sample_subject(rng, family)
        scene = Scene(background=sample_background(rng, landscape_percent), subject=subject)
        if _has_distinct_parts(subject) and is_legible(scene):
            return scene


def sample_background(rng: PortableRandom, landscape_percent: int = 26) -> Background:
    """Returns a background: mostly plain, then patterned, then a landscape."""
    if rng.chance(landscape_percent):
        return Background(kind=rng.choice(LANDSCAPES))
    kind = rng.choice(PATTERNED) if rng.chance(36) else "plain"
    return Background(kind=kind, tint=rng.choice(TINTS))


def sample_objects(
    rng: PortableRandom,
    num_things: int | None = None,
    least_px: int = MIN_RADIUS_PX,
    landscape_percent: int = 26,
) -> Scene:
    """Returns a flat scene of objects.

    Args:
        rng: source of the choices.
        num_things: number of objects; None for one (60 %), two (30 %) or three (10 %).
        least_px: radius of the smallest object.
        landscape_percent: percentage of scenes in a landscape.
    """
    background = sample_background(rng, landscape_percent)
    roll = rng.below(10)
    wanted = num_things or (1 if roll < 6 else 2 if roll < 9 else 3)
    while True:
        things: list[Thing] = []
        for _ in range(12):
            thing = sample_thing(rng, background, least_px, _largest_px(wanted))
            if has_room(thing, things):
                things.append(thing)
            if len(things) == wanted:
                return Scene(background=background, things=tuple(things))


def sample_thing(rng: PortableRandom, background: Background, least_px: int, most_px: int) -> Thing:
    """Returns a thing that stands out from a background, anywhere in the picture."""
    radius = rng.between(least_px, most_px)
    return Thing(
        kind=rng.choice(KINDS),
        colour=rng.choice(colours_on(background)),
        texture=sample_texture(rng),
        x_px=rng.between(radius + 2, SIZE_PX - 3 - radius),
        y_px=rng.between(radius + 2, SIZE_PX - 3 - radius),
        radius_px=radius,
    )


def sample_texture(rng: PortableRandom) -> Texture:
    """Returns a texture: plain in six of ten cases."""
    roll = rng.below(20)
    if roll < 12:
        return "plain"
    return "striped" if roll < 15 else "dotted" if roll < 18 else "checked"


def has_room(thing: Thing, others: Sequence[Thing]) -> bool:
    """Tells whether a thing keeps its distance from others and looks like none of them."""
    return all(
        _distance_2(thing, other) >= (thing.radius_px + other.radius_px + GAP_PX) ** 2
        and (thing.kind, thing.colour) != (other.kind, other.colour)
        for other in others
    )


@lru_cache(maxsize=256)
def colours_on(background: Background) -> tuple[Colour, ...]:
    """Returns the colours that stand out from a background."""
    return tuple(name for name in COLOURS if stands_out(COLOUR_RGB[name], background))


def is_legible(scene: Scene) -> bool:
    """Tells whether everything in a scene can be told apart from its background."""
    return all(stands_out(rgb, scene.background) for rgb in _main_papers(scene))


def _main_papers(scene: Scene) -> list[Rgb]:
    match scene.subject:
        case None:
            return [COLOUR_RGB[thing.colour] for thing in scene.things]
        case Face(hair_colour=hair):
            return [HAIR_RGB[hair]]
        case Figure(shirt=shirt, trousers=trousers):
            return [COLOUR_RGB[shirt], COLOUR_RGB[trousers]]
        case House(wall=wall, roof=roof):
            return [COLOUR_RGB[wall], COLOUR_RGB[roof]]
        case Car(colour=colour):
            return [COLOUR_RGB[colour]]


def _distance_2(first: Thing, second: Thing) -> int:
    return (first.x_px - second.x_px) ** 2 + (first.y_px - second.y_px) ** 2


def _largest_px(num_things: int) -> int:
    return {1: MAX_RADIUS_PX, 2: 17, 3: 14}[num_things]


def _mixed_family(rng: PortableRandom) -> Family:
    roll = rng.below(100)
    for name, share in FAMILY_PERCENT.items():
        if roll < share:
            return name
        roll -= share
    raise AssertionError("FAMILY_PERCENT adds up to less than 100")


def _sample_subject(rng: PortableRandom, family: _SubjectFamily) -> tuple[Subject, int]:
    """Returns a subject, and the percentage of its family that is in a landscape."""
    match family:
        case "face":
            return _sample_face(rng), 15
        case "figure":
            return _sample_figure(rng), 30
        case "house":
            return _sample_house(rng), 35
        case "car":
            return _sample_car(rng), 35


def _has_distinct_parts(subject: Subject) -> bool:
    """Tells whether neighbouring parts of a subject have distinguishable colours."""
    match subject:
        case Face(hair_colour=hair, skin=skin):
            return not is_near(HAIR_RGB[hair], SKIN_RGB[skin])
        case Figure(shirt=shirt, trousers=trousers, skin=skin):
            shirt_rgb = COLOUR_RGB[shirt]
            others = (COLOUR_RGB[trousers], SKIN_RGB[skin])
            return not any(is_near(shirt_rgb, other) for other in others)
        case House(wall=wall, roof=roof):
            return not is_near(COLOUR_RGB[wall], COLOUR_RGB[roof])
        case Car():
            return True


def _sample_face(rng: PortableRandom) -> Face:
    return Face(
        expression=rng.choice(EXPRESSIONS),
        skin=rng.choice(SKIN_TONES),
        hair_style=rng.choice(HAIR_STYLES),
        hair_colour=rng.choice(HAIR_COLOURS),
        x_px=rng.between(30, 34),
        y_px=rng.between(33, 35),
        radius_px=rng.between(22, 25),
    )


def _sample_figure(rng: PortableRandom) -> Figure:
    return Figure(
        pose=rng.choice(POSES),
        shirt=rng.choice(COLOURS),
        trousers=rng.choice(COLOURS),
        skin=rng.choice(SKIN_TONES),
        hair_colour=rng.choice(HAIR_COLOURS),
        x_px=rng.between(28, 36),
        y_px=rng.between(31, 34),
        radius_px=rng.between(25, 28),
    )


def _sample_house(rng: PortableRandom) -> House:
    return House(
        view=rng.choice(VIEWPOINTS),
        wall=rng.choice(COLOURS),
        roof=rng.choice(COLOURS),
        x_px=rng.between(29, 35),
        y_px=rng.between(32, 35),
        radius_px=rng.between(21, 26),
    )


def _sample_car(rng: PortableRandom) -> Car:
    return Car(
        view=rng.choice(VIEWPOINTS),
        colour=rng.choice(COLOURS),
        x_px=rng.between(30, 34),
        y_px=rng.between(30, 37),
        radius_px=rng.between(23, 27),
    )
