"""Drafts of edits of single things: add, remove, replace, color, texture, move and resize."""

from dataclasses import replace

from overpaint.jobs.papercut.changes import Draft, DragPoint, changed_mask
from overpaint.jobs.papercut.draw import footprint
from overpaint.jobs.papercut.sample import (
    PortableRandom,
    colours_on,
    has_room,
    sample_objects,
    sample_texture,
)
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
from overpaint.jobs.papercut.words import (
    POSITION_PHRASES,
    Position,
    describe_thing,
    phrase,
    position_of,
    with_article,
)

# Radius that an instruction means by a size word.
NAMED_RADIUS_PX: dict[Size, int] = {"small": 11, "medium": 15, "large": 19}
MARGIN_PX = 3
# The demo's edits are of things large enough for a 16x16 latent to hold their shape.
CLEAR_RADIUS_PX = 13


def add_thing(rng: PortableRandom) -> Draft | None:
    """Drafts a new thing of a named look, size and position; None where there is no room."""
    source = sample_objects(rng, num_things=rng.between(1, 2))
    for _ in range(8):
        size, position = rng.choice(SIZES), rng.choice(tuple(POSITION_PHRASES))
        thing = _named_thing(rng, source, size, position)
        if has_room(thing, source.things):
            break
    else:
        return None
    target = replace(source, things=(*source.things, thing))
    noun, where = with_article(f"{size} {describe_thing(thing)}"), POSITION_PHRASES[position]
    return Draft(
        source=source,
        target=target,
        phrasings=tuple(f"{verb} {noun} {where}" for verb in ("add", "put", "place")),
        mask_phrase="",
        mask=footprint(target, len(source.things)),
    )


def remove_thing(rng: PortableRandom) -> Draft:
    """Drafts the removal of a thing."""
    source = sample_objects(rng, num_things=rng.choice((1, 2, 2, 2, 3)))
    index = rng.below(len(source.things))
    noun = phrase(source, index)
    verbs = ("remove", "delete", "take away", "erase")
    return Draft(
        source=source,
        target=replace(source, things=(*source.things[:index], *source.things[index + 1 :])),
        phrasings=tuple(f"{verb} the {noun}" for verb in verbs),
        mask_phrase=noun,
        mask=footprint(source, index),
    )


def replace_thing(rng: PortableRandom) -> Draft | None:
    """Drafts a plain thing of another kind and colour, at the position and size of an old one."""
    source, index = _sample_large_source(rng)
    old = source.things[index]
    new = replace(
        old,
        kind=rng.choice([name for name in KINDS if name != old.kind]),
        colour=rng.choice([name for name in colours_on(source.background) if name != old.colour]),
        texture="plain",
    )
    noun, other = phrase(source, index), with_article(f"{new.colour} {new.kind}")
    return _draft_change(
        source,
        index,
        new,
        f"replace the {noun} with {other}",
        f"turn the {noun} into {other}",
        f"swap the {noun} for {other}",
    )


def recolour_thing(rng: PortableRandom) -> Draft | None:
    """Drafts another colour of a thing."""
    source, index = _sample_large_source(rng)
    old = source.things[index]
    colours = [name for name in colours_on(source.background) if name != old.colour]
    new = replace(old, colour=rng.choice(colours))
    noun = phrase(source, index)
    return _draft_change(
        source,
        index,
        new,
        f"make the {noun} {new.colour}",
        f"change the color of the {noun} to {new.colour}",
        f"change the colour of the {noun} to {new.colour}",
        f"paint the {noun} {new.colour}",
        f"recolor the {noun} to {new.colour}",
    )


def retexture_thing(rng: PortableRandom) -> Draft | None:
    """Drafts another texture of a thing."""
    source, index = _sample_large_source(rng)
    old = source.things[index]
    new = replace(old, texture=rng.choice([name for name in TEXTURES if name != old.texture]))
    noun = phrase(source, index)
    return _draft_change(
        source,
        index,
        new,
        f"make the {noun} {new.texture}",
        f"give the {noun} a {new.texture} pattern",
        f"change the texture of the {noun} to {new.texture}",
    )


def move_thing(rng: PortableRandom) -> Draft | None:
    """Drafts another of nine positions of a thing; None where there is no room."""
    source, index = _sample_source(rng)
    old = source.things[index]
    position = rng.choice([name for name in POSITION_PHRASES if name != position_of(old)])
    x, y = centre_of(position, old.radius_px)
    noun, where = phrase(source, index), POSITION_PHRASES[position]
    drag = (DragPoint(old.x_px, old.y_px, x, y),)
    return _draft_change(
        source,
        index,
        replace(old, x_px=x, y_px=y),
        f"move the {noun} to the {position}",
        f"shift the {noun} to the {position}",
        f"put the {noun} {where}",
        drag_points=drag,
    )


def resize_thing(rng: PortableRandom) -> Draft | None:
    """Drafts another size of a thing about its centre: 3/2 or 3/5 of its radius."""
    source, index = _sample_source(rng)
    old = source.things[index]
    is_bigger = rng.chance(50)
    radius = resized_px(old.radius_px, is_bigger=is_bigger)
    new = replace(old, radius_px=radius)
    if not (MIN_RADIUS_PX <= radius <= MAX_RADIUS_PX and _is_inside(new)):
        return None
    noun = phrase(source, index)
    word, verb = ("much bigger", "enlarge") if is_bigger else ("much smaller", "shrink")
    sides = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return _draft_change(
        source,
        index,
        new,
        f"make the {noun} {word}",
        f"{verb} the {noun}",
        drag_points=tuple(_edge_drag(old, radius, dx, dy) for dx, dy in sides),
    )


def resized_px(radius_px: int, *, is_bigger: bool) -> int:
    """Returns the radius that "much bigger" or "much smaller" means."""
    return radius_px * 3 // 2 if is_bigger else radius_px * 3 // 5


def centre_of(position: Position, radius_px: int) -> tuple[int, int]:
    """Returns the centre of a thing that an instruction puts at a position."""
    near, far = radius_px + MARGIN_PX, SIZE_PX - MARGIN_PX - 1 - radius_px
    x = near if "left" in position else far if "right" in position else SIZE_PX // 2
    y = near if "top" in position else far if "bottom" in position else SIZE_PX // 2
    return x, y


def _named_thing(rng: PortableRandom, source: Scene, size: Size, position: Position) -> Thing:
    x, y = centre_of(position, NAMED_RADIUS_PX[size])
    return Thing(
        kind=rng.choice(KINDS),
        colour=rng.choice(colours_on(source.background)),
        texture=sample_texture(rng),
        x_px=x,
        y_px=y,
        radius_px=NAMED_RADIUS_PX[size],
    )


def _sample_large_source(rng: PortableRandom) -> tuple[Scene, int]:
    source = sample_objects(
        rng,
        num_things=rng.choice((1, 1, 2)),
        least_px=CLEAR_RADIUS_PX,
        landscape_percent=10,
    )
    return source, rng.below(len(source.things))


def _sample_source(rng: PortableRandom) -> tuple[Scene, int]:
    source = sample_objects(rng, num_things=rng.choice((1, 1, 2)))
    return source, rng.below(len(source.things))


def _draft_change(
    source: Scene,
    index: int,
    new: Thing,
    *phrasings: str,
    drag_points: tuple[DragPoint, ...] | None = None,
) -> Draft | None:
    """Drafts `new` in place of thing `index`; None where another thing is in the way."""
    before, after = source.things[:index], source.things[index + 1 :]
    if not has_room(new, (*before, *after)):
        return None
    target = replace(source, things=(*before, new, *after))
    return Draft(
        source=source,
        target=target,
        phrasings=phrasings,
        mask_phrase=phrase(source, index),
        mask=changed_mask(source, index, target, index),
        drag_points=drag_points,
    )


def _is_inside(thing: Thing) -> bool:
    near, far = thing.radius_px + 2, SIZE_PX - 3 - thing.radius_px
    return near <= thing.x_px <= far and near <= thing.y_px <= far


def _edge_drag(old: Thing, radius_px: int, dx: int, dy: int) -> DragPoint:
    return DragPoint(
        old.x_px + dx * old.radius_px,
        old.y_px + dy * old.radius_px,
        old.x_px + dx * radius_px,
        old.y_px + dy * radius_px,
    )
