"""Concepts: the change in single words and short phrases, and pictures of what is wanted."""

from typing import ClassVar, NamedTuple

from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.scene import Background, Car, Face, Figure, House, Scene, Thing
from overpaint.jobs.papercut.twins import changed_things, twin_of
from overpaint.jobs.papercut.words import background_noun, describe_thing, style_noun
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType

NUM_PICTURES = 3


class Concept(NamedTuple):
    """One side of a change in words.

    Attributes:
        word: word for what changes, such as "red"; None where there is nothing.
        phrase: noun phrase that has it, such as "red star"; None where no word says it.
    """

    word: str | None
    phrase: str | None


class Concepts(DrawnCondition):
    """Change in words and pictures; null for move and resize, which change no looks.

    - `source_class`, `target_class`: the word for what changes and for what it becomes: a kind
      (add, remove, replace), color, texture, background, expression, pose or viewpoint. For a
      style they are "picture" and "pencil sketch" or the like. The source's is null for add, the
      target's for remove.
    - `edit_concepts`: the target's noun phrase, to add, and the source's, with `reverse`, to
      remove. A side without words has no entry: the source's for add and style, the target's for
      remove. Scales are left to the recipe.
    - `concept_uris`: three pictures, RGB, the source's size, of other scenes that each show the
      first of `edit_concepts`. Their places are not the source's. Where the table has no
      `references`, a run takes them as those by `--map concept_uris=references`.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "source_class",
        "target_class",
        "edit_concepts",
        "concept_uris",
    )
    edit_types: ClassVar[tuple[EditType, ...]] = tuple(
        name for name in EDIT_TYPES if name not in ("move", "resize")
    )

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the words of both sides, and pictures of the new one."""
        old, new = _sides(edit)
        entries = [
            {"prompt": side.phrase, "reverse": side is old}
            for side in (new, old)
            if side.phrase is not None
        ]
        pictures = tuple(draw(twin_of(edit, rng)) for _ in range(NUM_PICTURES))
        return {
            "source_class": old.word,
            "target_class": new.word,
            "edit_concepts": entries,
            "concept_uris": pictures,
        }


def _sides(edit: DrawnEdit) -> tuple[Concept, Concept]:
    """Returns the words of an edit, before and after."""
    match edit.edit_type:
        case "style" | "background" | "expression" | "pose" | "viewpoint":
            old, new = (_of_scene(edit.edit_type, scene) for scene in (edit.source, edit.target))
        case _:
            old, new = (_of_thing(edit.edit_type, thing) for thing in changed_things(edit))
    return old, new


def _of_thing(edit_type: EditType, thing: Thing | None) -> Concept:
    if thing is None:
        return Concept(None, None)
    match edit_type:
        case "color":
            return Concept(thing.colour, describe_thing(thing))
        case "texture":
            return Concept(thing.texture, f"{thing.texture} {thing.colour} {thing.kind}")
        case _:
            return Concept(thing.kind, describe_thing(thing))


def _of_scene(edit_type: EditType, scene: Scene) -> Concept:
    if edit_type == "style":
        noun = style_noun(scene.style).removeprefix("a ")
        return Concept(noun or "picture", noun or None)
    if edit_type == "background":
        return _of_background(scene.background)
    match scene.subject:
        case Face(expression=expression):
            return Concept(expression, f"{expression} face")
        case Figure(pose=pose):
            return Concept(pose, f"{pose} person")
        case House(view=view):
            return Concept(view, f"house seen from the {view}")
        case Car(view=view):
            return Concept(view, f"car seen from the {view}")
        case None:
            raise AssertionError(f"an edit of type {edit_type} is of a scene with a subject")


def _of_background(background: Background) -> Concept:
    noun = background_noun(background)
    if background.tint is None:
        return Concept(background.kind, noun.split(" ", 1)[1])
    return Concept(noun, f"{noun} background")
