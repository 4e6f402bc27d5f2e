"""Pairs of source and edited image with their true scores, to train and test a judge.

The edited image of a pair is one outcome (`Outcome`) of a papercut edit, either clean or degraded
inside the mask. Nothing here imports torch, so that drawing processes start quickly.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw_pixels
from overpaint.jobs.papercut.edits import DrawnEdit, sample_draft, sample_edit
from overpaint.jobs.papercut.scene import COLOURS, KINDS, Scene
from overpaint.jobs.training.cache import Example
from overpaint.jobs.training.examples import Split, ordered_caption
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType
from PIL import Image, ImageFilter

Outcome = Literal["true", "no-op", "failed", "other", "over-edited", "unrelated"]
Finish = Literal["clean", "soft", "blurred", "noisy"]

# Accuracy and preservation of an outcome; quality and realism of a finish.
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
# Sampling an edit takes longer than drawing, so that several consecutive pairs share one.
PAIRS_AN_EDIT = 4
_OUTCOME_SHARES = (0.38, 0.14, 0.16, 0.11, 0.18, 0.03)
_FINISH_SHARES = (0.45, 0.3, 0.13, 0.12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Source and edited image with instruction and captions; images are RGB uint8 HWC, 64 px.

    Attributes:
        source: image before the edit.
        edited: image that stands for an editor's result.
        instruction: edit instruction.
        before: caption of the source.
        after: caption of the edited image.
        wanted: caption of the true target.
        outcome: relation of the edited image to the true target.
        finish: degradation of the edited image.
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
        """True answer of a judge: the three captions and the four scores."""
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
    """Returns pair number `index`: `source` and `edited`, instruction, answer and outcome."""
    pair = sample_pair(index, split=split, edit_types=edit_types)
    texts = {"instruction": pair.instruction, "answer": pair.answer, "outcome": pair.outcome}
    return Example({"source": pair.source, "edited": pair.edited}, texts)


def sample_pair(index: int, *, split: Split, edit_types: tuple[EditType, ...] = EDIT_TYPES) -> Pair:
    """Returns pair number `index` of a split."""
    rng = np.random.default_rng([index, 2])
    edit = _edit(index // PAIRS_AN_EDIT, split, edit_types)
    outcome: Outcome = rng.choice(get_args(Outcome), p=_OUTCOME_SHARES)
    finish: Finish = rng.choice(get_args(Finish), p=_FINISH_SHARES)
    scene, outcome = _carry_out(edit, outcome, index, split, rng)
    mask = np.full_like(edit.mask, 255) if outcome in ("other", "unrelated") else edit.mask
    return Pair(
        source=draw_pixels(edit.source),
        edited=degrade(draw_pixels(scene), mask, finish, rng),
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
    """Degrades an image (RGB uint8 HWC) inside a mask (uint8 HW): soft, blurred or noisy."""
    if finish == "clean":
        return image
    if finish == "noisy":
        noise = rng.normal(0.0, rng.uniform(18.0, 45.0), image.shape)
        degraded = np.clip(image + noise, 0, 255).astype(np.uint8)
    else:
        radius_px = rng.uniform(0.4, 0.8) if finish == "soft" else rng.uniform(1.5, 3.0)
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px))
        shift = rng.normal(0.0, 4.0, 3)
        degraded = np.clip(np.asarray(blurred) + shift, 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0, degraded, image)


def _carry_out(
    edit: DrawnEdit, outcome: Outcome, index: int, split: Split, rng: np.random.Generator
) -> tuple[Scene, Outcome]:
    """Returns the scene of an outcome, and the outcome: an impossible one becomes another."""
    match outcome:
        case "true":
            return edit.target, outcome
        case "no-op":
            return edit.source, outcome
        case "failed":
            wrong = wrong_edit(edit, rng)
            return (edit.source, "no-op") if wrong is None else (wrong, outcome)
        case "other":
            changed = perturb(edit.source, edit, rng)
            return (edit.source, "no-op") if changed is None else (changed, outcome)
        case "over-edited":
            changed = perturb(edit.target, edit, rng)
            return (edit.target, "true") if changed is None else (changed, outcome)
        case "unrelated":
            return sample_draft(index + 1_000_003, edit.edit_type, split).target, outcome


def wrong_edit(edit: DrawnEdit, rng: np.random.Generator) -> Scene | None:
    """Returns the scene after a wrong edit of the right item; None where sampling yields none.

    A wrong edit gives the item another colour, kind, pose and so on than the instruction asks for.
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
        removed = target.things[int(rng.integers(len(target.things)))]
        rest = tuple(thing for thing in source.things if thing != removed)
        return replace(source, things=rest)
    return _wrong_scene_edit(edit, rng)


def _wrong_scene_edit(edit: DrawnEdit, rng: np.random.Generator) -> Scene | None:
    for _ in range(12):
        other = sample_draft(int(rng.integers(2**31)), edit.edit_type, "train").target
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
    """Returns a scene with a change outside the edit; None where sampling yields none."""
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
        other = sample_draft(int(rng.integers(2**31)), "background", "train").target
        if other.background != scene.background:
            return replace(scene, background=other.background)
    return None


def _with_thing(scene: Scene, index: int, thing: object) -> Scene:
    things = [*scene.things]
    things[index] = thing  # pyright: ignore[reportArgumentType, reportCallIssue]
    return replace(scene, things=tuple(things))


def _other(values: tuple[str, ...], excluded: tuple[str, ...], rng: np.random.Generator) -> str:
    rest = [value for value in values if value not in excluded]
    return rest[int(rng.integers(len(rest)))]
