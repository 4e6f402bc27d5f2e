"""Scenes at random: a fixed mixture, and a split that keeps test content out of training.

The split is decided by what a scene shows (kinds, colours, textures, background, style, face, pose,
view), not by where it shows it: a test scene's content occurs nowhere in training at any place or
size, so a test picture is never a training picture moved by a pixel.
"""

from __future__ import annotations

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
# Per cent of each family where the caller names none: 76 of 100 scenes are of objects, and six of
# seven scenes are flat, so that two thirds of all are objects in flat style.
FAMILY_PERCENT: dict[Family, int] = {"objects": 76, "face": 7, "figure": 7, "house": 5, "car": 5}
STYLED_PERCENT = 14

T = TypeVar("T")
_SubjectFamily = Literal["face", "figure", "house", "car"]


class Dice:
    """Random choices that are the same in every Python: only `random()` is used."""

    def __init__(self, seed: str) -> None:
        """Start from a text, which Python hashes the same way everywhere."""
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return int(self._random() * limit)

    def between(self, first: int, last: int) -> int:
        """A whole number from first to last, both included."""
        return first + self.below(last - first + 1)

    def percent(self, share: int) -> bool:
        """True in `share` of 100 cases."""
        return self.below(100) < share

    def pick(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.below(len(values))]


def sample_scene(
    seed: int, split: Split = "train", families: Sequence[Family] | None = None
) -> Scene:
    """The scene of a seed.

    Args:
        seed: Any whole number; the same one gives the same scene for the same other arguments.
        split: Whose content to show; the two splits share none.
        families: Which families to draw from, equally; None for the mixture of FAMILY_PERCENT.

    Raises:
        ValueError: A family is unknown, or none is given.
    """
    if families is not None and (not families or any(name not in FAMILIES for name in families)):
        raise ValueError(
            f"families is {list(families)}; it must name some of {', '.join(FAMILIES)}"
        )
    dice = Dice(f"scene {seed}")
    while True:
        family = dice.pick(families) if families else _mixed_family(dice)
        style: Style = dice.pick(STYLES[1:]) if dice.percent(STYLED_PERCENT) else "flat"
        scene = replace(sample_family(dice, family), style=style)
        if split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> Split:
    """Which split a scene's content belongs to; one content in sixteen is for tests."""
    digest = hashlib.blake2b(content_of(scene).encode(), digest_size=4).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_SHARE == 0 else "train"


def content_of(scene: Scene) -> str:
    """What a scene shows, without places and sizes, as a text that names it."""
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


def sample_family(dice: Dice, family: Family) -> Scene:
    """A flat scene of a family, of either split."""
    if family == "objects":
        return sample_objects(dice)
    while True:
        subject, landscape_percent = _sample_subject(dice, family)
        scene = Scene(background=sample_background(dice, landscape_percent), subject=subject)
        if _has_distinct_parts(subject) and fits(scene):
            return scene


def sample_background(dice: Dice, landscape_percent: int = 26) -> Background:
    """A background: mostly plain, then patterned, then a landscape."""
    if dice.percent(landscape_percent):
        return Background(kind=dice.pick(LANDSCAPES))
    kind = dice.pick(PATTERNED) if dice.percent(36) else "plain"
    return Background(kind=kind, tint=dice.pick(TINTS))


def sample_objects(
    dice: Dice,
    num_things: int | None = None,
    least_px: int = MIN_RADIUS_PX,
    landscape_percent: int = 26,
) -> Scene:
    """A flat scene of objects.

    Args:
        dice: Where the choices come from.
        num_things: How many; None for one (60 %), two (30 %) or three (10 %).
        least_px: Radius of the smallest.
        landscape_percent: How many of 100 lie in a landscape.
    """
    background = sample_background(dice, landscape_percent)
    roll = dice.below(10)
    wanted = num_things or (1 if roll < 6 else 2 if roll < 9 else 3)
    while True:
        things: list[Thing] = []
        for _ in range(12):
            thing = sample_thing(dice, background, least_px, _largest_px(wanted))
            if is_free(thing, things):
                things.append(thing)
            if len(things) == wanted:
                return Scene(background=background, things=tuple(things))


def sample_thing(dice: Dice, background: Background, least_px: int, most_px: int) -> Thing:
    """A thing that stands out from a background, anywhere in the picture."""
    radius = dice.between(least_px, most_px)
    return Thing(
        kind=dice.pick(KINDS),
        colour=dice.pick(colours_on(background)),
        texture=sample_texture(dice),
        x_px=dice.between(radius + 2, SIZE_PX - 3 - radius),
        y_px=dice.between(radius + 2, SIZE_PX - 3 - radius),
        radius_px=radius,
    )


def sample_texture(dice: Dice) -> Texture:
    """A texture: plain in six of ten cases."""
    roll = dice.below(20)
    if roll < 12:
        return "plain"
    return "striped" if roll < 15 else "dotted" if roll < 18 else "checked"


def is_free(thing: Thing, others: Sequence[Thing]) -> bool:
    """Whether a thing keeps its distance from others and looks like none of them."""
    return all(
        _distance_2(thing, other) >= (thing.radius_px + other.radius_px + GAP_PX) ** 2
        and (thing.kind, thing.colour) != (other.kind, other.colour)
        for other in others
    )


@lru_cache(maxsize=256)
def colours_on(background: Background) -> tuple[Colour, ...]:
    """The colours that stand out from a background."""
    return tuple(name for name in COLOURS if stands_out(COLOUR_RGB[name], background))


def fits(scene: Scene) -> bool:
    """Whether everything in a scene can be told apart from its background."""
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


def _mixed_family(dice: Dice) -> Family:
    roll = dice.below(100)
    for name, share in FAMILY_PERCENT.items():
        if roll < share:
            return name
        roll -= share
    raise AssertionError("FAMILY_PERCENT adds up to less than 100")


def _sample_subject(dice: Dice, family: _SubjectFamily) -> tuple[Subject, int]:
    """A subject, and how many of 100 of its kind are in a landscape."""
    match family:
        case "face":
            return _sample_face(dice), 15
        case "figure":
            return _sample_figure(dice), 30
        case "house":
            return _sample_house(dice), 35
        case "car":
            return _sample_car(dice), 35


def _has_distinct_parts(subject: Subject) -> bool:
    """Whether neighbouring parts of a subject have colours that can be told apart."""
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


def _sample_face(dice: Dice) -> Face:
    return Face(
        expression=dice.pick(EXPRESSIONS),
        skin=dice.pick(SKIN_TONES),
        hair_style=dice.pick(HAIR_STYLES),
        hair_colour=dice.pick(HAIR_COLOURS),
        x_px=dice.between(30, 34),
        y_px=dice.between(33, 35),
        radius_px=dice.between(22, 25),
    )


def _sample_figure(dice: Dice) -> Figure:
    return Figure(
        pose=dice.pick(POSES),
        shirt=dice.pick(COLOURS),
        trousers=dice.pick(COLOURS),
        skin=dice.pick(SKIN_TONES),
        hair_colour=dice.pick(HAIR_COLOURS),
        x_px=dice.between(28, 36),
        y_px=dice.between(31, 34),
        radius_px=dice.between(25, 28),
    )


def _sample_house(dice: Dice) -> House:
    return House(
        view=dice.pick(VIEWPOINTS),
        wall=dice.pick(COLOURS),
        roof=dice.pick(COLOURS),
        x_px=dice.between(29, 35),
        y_px=dice.between(32, 35),
        radius_px=dice.between(21, 26),
    )


def _sample_car(dice: Dice) -> Car:
    return Car(
        view=dice.pick(VIEWPOINTS),
        colour=dice.pick(COLOURS),
        x_px=dice.between(30, 34),
        y_px=dice.between(30, 37),
        radius_px=dice.between(23, 27),
    )
