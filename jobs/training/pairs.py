"""Pairs of source and edited image with the scores a fair judge gives them, from the truth.

Each pair is one edit of papercut carried out in one of several ways (`Outcome`), its edited image
then left clean or degraded inside the mask. Nothing here imports torch.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import EDIT_TYPES, DrawnEdit, EditType, sample_edit
from overpaint.jobs.papercut.scene import COLOURS, KINDS, Scene
from overpaint.jobs.training.cache import Example
from overpaint.jobs.training.examples import Split, ordered_caption, rgb
from PIL import Image, ImageFilter

Outcome = Literal["true", "no-op", "failed", "other", "over-edited", "unrelated"]
Finish = Literal["clean", "soft", "blurred", "noisy"]

# accuracy and preservation; quality and realism
_CONTENT_SCORES: dict[Outcome, tuple[int, int]] = {
    "true": (10, 10),
    "no-op": (0, 10),
    "failed": (2, 9),
    "other": (0, 5),
    "over-edited": (10, 3),
    "unrelated": (0, 0),
}
_LOOK_SCORES: dict[Finish, tuple[int, int]] = {
    "clean": (10, 10),
    "soft": (8, 9),
    "blurred": (4, 5),
    "noisy": (2, 3),
}
# Sampling an edit takes longer than drawing, so several neighbouring pairs share one.
PAIRS_AN_EDIT = 4
_OUTCOME_SHARES = (0.38, 0.14, 0.16, 0.11, 0.18, 0.03)
_FINISH_SHARES = (0.45, 0.3, 0.13, 0.12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A pair and its scores; images are RGB uint8 HWC of 64 px.

    Attributes:
        source: The image before.
        edited: What stands for an editor's answer.
        instruction: What was asked.
        before: What the source shows.
        after: What the edited image shows.
        wanted: What it should show.
        outcome: How the edit was carried out.
        finish: How the edited image was degraded.
    """

    source: NDArray[np.uint8]
    edited: NDArray[np.uint8]
    instruction: str
    before: str
    after: str
    wanted: str
    outcome: Outcome
    finish: Finish

    @property
    def answer(self) -> str:
        """What both images show, what was wanted, and the four scores, as the judge writes them."""
        accuracy, preservation = _CONTENT_SCORES[self.outcome]
        quality, realism = _LOOK_SCORES[self.finish]
        return (
            f"before: {self.before} after: {self.after} wanted: {self.wanted} "
            f"accuracy: {accuracy} preservation: {preservation} "
            f"quality: {quality} realism: {realism}"
        )


def pair_example(
    index: int, *, split: Split, edit_types: tuple[EditType, ...] = EDIT_TYPES
) -> Example:
    """Pair number `index`: `source` and `edited`, the instruction and the answer."""
    pair = sample_pair(index, split=split, edit_types=edit_types)
    texts = {"instruction": pair.instruction, "answer": pair.answer, "outcome": pair.outcome}
    return Example({"source": pair.source, "edited": pair.edited}, texts)


def sample_pair(index: int, *, split: Split, edit_types: tuple[EditType, ...] = EDIT_TYPES) -> Pair:
    """Pair number `index` of a split."""
    rng = np.random.default_rng([index, 2])
    edit = _edit(index // PAIRS_AN_EDIT, split, edit_types)
    outcome: Outcome = rng.choice(get_args(Outcome), p=_OUTCOME_SHARES)
    finish: Finish = rng.choice(get_args(Finish), p=_FINISH_SHARES)
    scene, outcome = _carry_out(edit, outcome, index, split, rng)
    mask = np.full_like(edit.mask, 255) if outcome in ("other", "unrelated") else edit.mask
    return Pair(
        source=rgb(draw(edit.source)),
        edited=degrade(rgb(draw(scene)), mask, finish, rng),
        instruction=edit.phrasings[int(rng.integers(len(edit.phrasings)))],
        before=ordered_caption(edit.source),
        after=ordered_caption(scene),
        wanted=ordered_caption(edit.target),
        outcome=outcome,
        finish=finish,
    )


@lru_cache(maxsize=1)
def _edit(index: int, split: Split, edit_types: tuple[EditType, ...]) -> DrawnEdit:
    return sample_edit(index, edit_types[index % len(edit_types)], split)


def degrade(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    finish: Finish,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """An image that is soft, blurred or noisy inside a mask; RGB uint8 HWC and uint8 HW."""
    if finish == "clean":
        return image
    if finish == "noisy":
        noise = rng.normal(0.0, rng.uniform(18.0, 45.0), image.shape)
        made = np.clip(image + noise, 0, 255).astype(np.uint8)
    else:
        radius_px = rng.uniform(0.4, 0.8) if finish == "soft" else rng.uniform(1.5, 3.0)
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px))
        shift = rng.normal(0.0, 4.0, 3)
        made = np.clip(np.asarray(blurred) + shift, 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0, made, image)


def _carry_out(
    edit: DrawnEdit, outcome: Outcome, index: int, split: Split, rng: np.random.Generator
) -> tuple[Scene, Outcome]:
    """The scene after an outcome, and the outcome: one that cannot be drawn becomes another."""
    match outcome:
        case "true":
            return edit.target, outcome
        case "no-op":
            return edit.source, outcome
        case "failed":
            missed = wrong_edit(edit, rng)
            return (edit.source, "no-op") if missed is None else (missed, outcome)
        case "other":
            changed = perturb(edit.source, edit, rng)
            return (edit.source, "no-op") if changed is None else (changed, outcome)
        case "over-edited":
            changed = perturb(edit.target, edit, rng)
            return (edit.target, "true") if changed is None else (changed, outcome)
        case "unrelated":
            return sample_edit(index + 1_000_003, edit.edit_type, split).target, outcome


def wrong_edit(edit: DrawnEdit, rng: np.random.Generator) -> Scene | None:
    """The edit carried out wrongly: another colour, kind, place, pose...; None if none is found.

    It is the target of another edit of the same type, so far as that changes the same item.
    """
    source, target = edit.source, edit.target
    for index, (old, new) in enumerate(zip(source.things, target.things, strict=False)):
        if old != new:
            wrong = replace(new, colour=_other(COLOURS, (new.colour, old.colour), rng))
            if edit.edit_type in ("replace", "add") and rng.random() < 0.6:
                wrong = replace(new, kind=_other(KINDS, (new.kind, old.kind), rng))
            if edit.edit_type in ("move", "resize", "texture"):
                wrong = replace(old, colour=_other(COLOURS, (old.colour,), rng))
            return _with_thing(target, index, wrong)
    if len(target.things) > len(source.things):
        new = target.things[-1]
        wrong = replace(new, kind=_other(KINDS, (new.kind,), rng))
        return _with_thing(target, len(target.things) - 1, wrong)
    if len(target.things) < len(source.things) and target.things:
        kept = int(rng.integers(len(target.things)))
        removed = target.things[kept]
        rest = tuple(thing for thing in source.things if thing != removed)
        return replace(source, things=rest)
    return _wrong_scene_edit(edit, rng)


def _wrong_scene_edit(edit: DrawnEdit, rng: np.random.Generator) -> Scene | None:
    for _ in range(12):
        other = sample_edit(int(rng.integers(2**31)), edit.edit_type, "train").target
        if edit.edit_type == "background" and other.background not in (
            edit.source.background,
            edit.target.background,
        ):
            return replace(edit.source, background=other.background)
        if edit.edit_type == "style" and other.style not in (edit.source.style, edit.target.style):
            return replace(edit.source, style=other.style)
        name = {"expression": "expression", "pose": "pose", "viewpoint": "view"}.get(edit.edit_type)
        if name is None or type(other.subject) is not type(edit.source.subject):
            continue
        wrong = getattr(other.subject, name)
        if wrong not in (getattr(edit.source.subject, name), getattr(edit.target.subject, name)):
            subject: Any = edit.source.subject
            return replace(edit.source, subject=replace(subject, **{name: wrong}))
    return None


def perturb(scene: Scene, edit: DrawnEdit, rng: np.random.Generator) -> Scene | None:
    """A scene with something changed that the edit is not about; None if there is nothing."""
    untouched = [
        index
        for index, thing in enumerate(scene.things)
        if thing in edit.source.things and thing in edit.target.things
    ]
    if untouched and rng.random() < 0.6:
        index = untouched[int(rng.integers(len(untouched)))]
        thing = scene.things[index]
        if rng.random() < 0.3:
            return replace(scene, things=(*scene.things[:index], *scene.things[index + 1 :]))
        if rng.random() < 0.5:
            return _with_thing(scene, index, replace(thing, kind=_other(KINDS, (thing.kind,), rng)))
        colour = _other(COLOURS, (thing.colour,), rng)
        return _with_thing(scene, index, replace(thing, colour=colour))
    if edit.edit_type == "background":
        return None
    for _ in range(12):
        other = sample_edit(int(rng.integers(2**31)), "background", "train").target
        if other.background != scene.background:
            return replace(scene, background=other.background)
    return None


def _with_thing(scene: Scene, index: int, thing: object) -> Scene:
    things = [*scene.things]
    things[index] = thing  # pyright: ignore[reportArgumentType, reportCallIssue]
    return replace(scene, things=tuple(things))


def _other(values: tuple[str, ...], not_these: tuple[str, ...], rng: np.random.Generator) -> str:
    rest = [value for value in values if value not in not_these]
    return rest[int(rng.integers(len(rest)))]
