"""Edits of single things: add, remove, replace, color, texture, move and resize."""

from __future__ import annotations

from dataclasses import replace

from overpaint.jobs.papercut.changes import Draft, DragPoint, mask_of
from overpaint.jobs.papercut.draw import footprint
from overpaint.jobs.papercut.sample import Dice, colours_on, is_free, sample_objects, sample_texture
from overpaint.jobs.papercut.scene import (
    KINDS,
    MAX_RADIUS_PX,
    MIN_RADIUS_PX,
    SIZE_PX,
    SIZES,
    TEXTURES,
    Scene,
    Size,
    Thing,
)
from overpaint.jobs.papercut.words import PLACES, Place, looks, phrase, place_of, with_article

# An instruction that says "small" or "in the top left" means exactly these.
NAMED_RADIUS_PX: dict[Size, int] = {"small": 11, "medium": 15, "large": 19}
MARGIN_PX = 3
# The demo's edits are of things large enough for a 16x16 latent to hold their shape.
CLEAR_RADIUS_PX = 13


def add_thing(dice: Dice) -> Draft | None:
    """A new thing of a named kind, colour, size and place; None where there is no room."""
    source = sample_objects(dice, num_things=dice.between(1, 2))
    for _ in range(8):
        size, place = dice.pick(SIZES), dice.pick(tuple(PLACES))
        thing = _named_thing(dice, source, size, place)
        if is_free(thing, source.things):
            break
    else:
        return None
    target = replace(source, things=(*source.things, thing))
    noun, where = with_article(f"{size} {looks(thing)}"), PLACES[place]
    return Draft(
        source=source,
        target=target,
        phrasings=tuple(f"{verb} {noun} {where}" for verb in ("add", "put", "place")),
        mask_phrase="",
        mask=footprint(target, len(source.things)),
    )


def remove_thing(dice: Dice) -> Draft:
    """One thing less."""
    source = sample_objects(dice, num_things=dice.pick((1, 2, 2, 2, 3)))
    index = dice.below(len(source.things))
    noun = phrase(source, index)
    verbs = ("remove", "delete", "take away", "erase")
    return Draft(
        source=source,
        target=replace(source, things=(*source.things[:index], *source.things[index + 1 :])),
        phrasings=tuple(f"{verb} the {noun}" for verb in verbs),
        mask_phrase=noun,
        mask=footprint(source, index),
    )


def replace_thing(dice: Dice) -> Draft | None:
    """A plain thing of another kind and colour in the place and size of the old one."""
    source, index = _clear_source(dice)
    old = source.things[index]
    new = replace(
        old,
        kind=dice.pick([name for name in KINDS if name != old.kind]),
        colour=dice.pick([name for name in colours_on(source.background) if name != old.colour]),
        texture="plain",
    )
    noun, other = phrase(source, index), with_article(f"{new.colour} {new.kind}")
    return _changed(
        source,
        index,
        new,
        f"replace the {noun} with {other}",
        f"turn the {noun} into {other}",
        f"swap the {noun} for {other}",
    )


def recolour_thing(dice: Dice) -> Draft | None:
    """The same thing in another colour."""
    source, index = _clear_source(dice)
    old = source.things[index]
    colours = [name for name in colours_on(source.background) if name != old.colour]
    new = replace(old, colour=dice.pick(colours))
    noun = phrase(source, index)
    return _changed(
        source,
        index,
        new,
        f"make the {noun} {new.colour}",
        f"change the color of the {noun} to {new.colour}",
        f"change the colour of the {noun} to {new.colour}",
        f"paint the {noun} {new.colour}",
        f"recolor the {noun} to {new.colour}",
    )


def retexture_thing(dice: Dice) -> Draft | None:
    """The same thing of plain, striped, dotted or checked paper."""
    source, index = _clear_source(dice)
    old = source.things[index]
    new = replace(old, texture=dice.pick([name for name in TEXTURES if name != old.texture]))
    noun = phrase(source, index)
    return _changed(
        source,
        index,
        new,
        f"make the {noun} {new.texture}",
        f"give the {noun} a {new.texture} pattern",
        f"change the texture of the {noun} to {new.texture}",
    )


def move_thing(dice: Dice) -> Draft | None:
    """The same thing at another of nine places; None where there is no room."""
    source, index = _any_source(dice)
    old = source.things[index]
    place = dice.pick([name for name in PLACES if name != place_of(old)])
    x, y = centre_of(place, old.radius_px)
    noun, where = phrase(source, index), PLACES[place]
    drag = (DragPoint(old.x_px, old.y_px, x, y),)
    return _changed(
        source,
        index,
        replace(old, x_px=x, y_px=y),
        f"move the {noun} to the {place}",
        f"shift the {noun} to the {place}",
        f"put the {noun} {where}",
        drag_points=drag,
    )


def resize_thing(dice: Dice) -> Draft | None:
    """The same thing half as big again, or three fifths of its size, about its centre."""
    source, index = _any_source(dice)
    old = source.things[index]
    is_bigger = dice.percent(50)
    radius = resized_px(old.radius_px, is_bigger=is_bigger)
    new = replace(old, radius_px=radius)
    if not (MIN_RADIUS_PX <= radius <= MAX_RADIUS_PX and _is_inside(new)):
        return None
    noun = phrase(source, index)
    word, verb = ("much bigger", "enlarge") if is_bigger else ("much smaller", "shrink")
    sides = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return _changed(
        source,
        index,
        new,
        f"make the {noun} {word}",
        f"{verb} the {noun}",
        drag_points=tuple(_pull(old, radius, dx, dy) for dx, dy in sides),
    )


def resized_px(radius_px: int, *, is_bigger: bool) -> int:
    """The radius that "much bigger" and "much smaller" mean."""
    return radius_px * 3 // 2 if is_bigger else radius_px * 3 // 5


def centre_of(place: Place, radius_px: int) -> tuple[int, int]:
    """The centre of a thing that an instruction puts at a place."""
    near, far = radius_px + MARGIN_PX, SIZE_PX - MARGIN_PX - 1 - radius_px
    x = near if "left" in place else far if "right" in place else SIZE_PX // 2
    y = near if "top" in place else far if "bottom" in place else SIZE_PX // 2
    return x, y


def _named_thing(dice: Dice, source: Scene, size: Size, place: Place) -> Thing:
    x, y = centre_of(place, NAMED_RADIUS_PX[size])
    return Thing(
        kind=dice.pick(KINDS),
        colour=dice.pick(colours_on(source.background)),
        texture=sample_texture(dice),
        x_px=x,
        y_px=y,
        radius_px=NAMED_RADIUS_PX[size],
    )


def _clear_source(dice: Dice) -> tuple[Scene, int]:
    source = sample_objects(
        dice,
        num_things=dice.pick((1, 1, 2)),
        least_px=CLEAR_RADIUS_PX,
        landscape_percent=10,
    )
    return source, dice.below(len(source.things))


def _any_source(dice: Dice) -> tuple[Scene, int]:
    source = sample_objects(dice, num_things=dice.pick((1, 1, 2)))
    return source, dice.below(len(source.things))


def _changed(
    source: Scene,
    index: int,
    new: Thing,
    *phrasings: str,
    drag_points: tuple[DragPoint, ...] | None = None,
) -> Draft | None:
    """The draft that puts `new` where thing `index` was; None where another is in the way."""
    before, after = source.things[:index], source.things[index + 1 :]
    if not is_free(new, (*before, *after)):
        return None
    target = replace(source, things=(*before, new, *after))
    return Draft(
        source=source,
        target=target,
        phrasings=phrasings,
        mask_phrase=phrase(source, index),
        mask=mask_of(source, index, target, index),
        drag_points=drag_points,
    )


def _is_inside(thing: Thing) -> bool:
    near, far = thing.radius_px + 2, SIZE_PX - 3 - thing.radius_px
    return near <= thing.x_px <= far and near <= thing.y_px <= far


def _pull(old: Thing, radius_px: int, dx: int, dy: int) -> DragPoint:
    return DragPoint(
        old.x_px + dx * old.radius_px,
        old.y_px + dy * old.radius_px,
        old.x_px + dx * radius_px,
        old.y_px + dy * radius_px,
    )
