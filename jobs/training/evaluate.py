"""Figures of each checkpoint on unseen test scenes, as `overpaint bench checkpoints` reports them.

Every function loads a checkpoint from its folder with plain `from_pretrained`, as any user would,
or through the operator that uses it, and shows what it measured as a sample sheet.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.words import captions
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.caption import attributes_of, generate_captions
from overpaint.jobs.training.clip import best_captions, rank1_accuracy
from overpaint.jobs.training.clipseg import iou, mask_images, predict_masks
from overpaint.jobs.training.edit_success import edit_test_scenes
from overpaint.jobs.training.examples import (
    SINGLE_OBJECT,
    mask_example,
    mixture_scene,
    rgb,
    scene_example,
)
from overpaint.jobs.training.instruction import EditSampling
from overpaint.jobs.training.judge import auc, edit_score, generate_answers, parse_descriptions
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.sam import box_prompts, point_prompts, segment
from overpaint.jobs.training.scene_reader import correct_attributes, read_scene
from overpaint.jobs.training.text_to_image import generate
from overpaint.jobs.training.vae import reconstruct
from overpaint.operators.models import sam as sam_operator
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
)

_CPU = torch.device("cpu")
_NUM_SHOWN = 12

BARS: dict[tuple[str, str], float] = {
    ("vae", "psnr_db_mean"): 34.0,
    ("vae", "psnr_db_p5"): 30.0,
    ("text_to_image", "attributes_right"): 0.90,
    ("instruction", "success"): 0.80,
    ("clip", "rank1_of_64"): 0.90,
    ("clipseg", "iou_mean"): 0.85,
    ("caption", "attributes_right"): 0.85,
    ("judge", "auc"): 0.90,
    ("sam", "iou_box_mean"): 0.90,
    ("sam", "iou_point_mean"): 0.80,
}
"""What a checkpoint's figures are to reach, by checkpoint and figure."""


class Figure(NamedTuple):
    """One measured figure of a checkpoint, with the number of test scenes behind it."""

    name: str
    value: float
    num_scenes: int


class Measurement(NamedTuple):
    """What was measured: figures by name, and pictures of the first scenes."""

    figures: dict[str, float]
    sheet: Image.Image


class Evaluation(NamedTuple):
    """The figures of a checkpoint, and pictures of the first scenes."""

    figures: list[Figure]
    sheet: Image.Image


class EvalContext(NamedTuple):
    """Where a checkpoint is measured.

    Attributes:
        checkpoints: Folder with one folder a checkpoint.
        caches: Folder of drawn test scenes.
        num_scenes: Unseen scenes.
        device: Where models run.
    """

    checkpoints: Path
    caches: Path
    num_scenes: int = 512
    device: torch.device = _CPU

    def drawn(self, name: str, draw_example: Callable[..., Example]) -> Cache:
        """Unseen examples of a kind."""
        return open_cache(
            self.caches / f"{name}-test-{self.num_scenes}",
            partial(draw_example, split="test"),
            self.num_scenes,
            num_processes=1,
        )


def measure(name: str, context: EvalContext) -> Evaluation:
    """The figures of a checkpoint.

    Args:
        name: One of `MEASURES`.
        context: Where the checkpoint is and how many scenes to measure it on.

    Raises:
        ValueError: No checkpoint of that name is measured.
    """
    if name not in MEASURES:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(MEASURES)}")
    with torch.no_grad():
        found = MEASURES[name](context)
    figures = [Figure(figure, value, context.num_scenes) for figure, value in found.figures.items()]
    return Evaluation(figures, found.sheet)


def _vae(context: EvalContext) -> Measurement:
    vae = _loaded(AutoencoderKL.from_pretrained(context.checkpoints / "vae"), context)
    images = np.asarray(context.drawn("scenes-all", scene_example).arrays["image"])
    made = reconstruct(vae, images)
    psnr_db = pictures.psnr(images, made)
    figures = {
        "psnr_db_mean": float(psnr_db.mean()),
        "psnr_db_p5": float(np.percentile(psnr_db, 5)),
    }
    return Measurement(figures, pictures.image_grid([images[:_NUM_SHOWN], made[:_NUM_SHOWN]]))


def _clip(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "clip"
    clip = _loaded(CLIPModel.from_pretrained(folder), context)
    test = context.drawn("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = np.asarray(test.arrays["image"])
    chosen = best_captions(clip, tokenizer, test, range(min(64, len(test))), context.device)
    return Measurement(
        {"rank1_of_64": rank1_accuracy(clip, tokenizer, test, context.device)},
        pictures.image_grid([images[:_NUM_SHOWN], images[chosen[:_NUM_SHOWN]]]),
    )


def _clipseg(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "clipseg"
    clipseg = _loaded(CLIPSegForImageSegmentation.from_pretrained(folder), context)
    test = context.drawn("masks", mask_example)
    phrases = [entry["phrases"][0] for entry in test.texts]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    found = predict_masks(clipseg, tokenizer, images, phrases, context.device)
    overlaps = iou(masks, found)
    shown = [images[:_NUM_SHOWN], *(mask_images(rows[:_NUM_SHOWN]) for rows in (masks, found))]
    return Measurement(
        {"iou_mean": float(overlaps.mean()), "iou_p5": float(np.percentile(overlaps, 5))},
        pictures.image_grid(shown),
    )


def _sam(context: EvalContext) -> Measurement:
    """IoU from the box around an object, and from its innermost point."""
    sam = sam_operator.load(str(context.checkpoints / "sam"), None, "float32")
    test = context.drawn("masks", mask_example)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    figures: dict[str, float] = {}
    shown = [images[:_NUM_SHOWN], mask_images(masks[:_NUM_SHOWN])]
    for name, selections in (("box", box_prompts(masks)), ("point", point_prompts(masks))):
        found = segment(sam, images, selections)
        overlaps = iou(masks, found)
        figures[f"iou_{name}_mean"] = float(overlaps.mean())
        figures[f"iou_{name}_p5"] = float(np.percentile(overlaps, 5))
        shown.append(mask_images(found[:_NUM_SHOWN]))
    return Measurement(figures, pictures.image_grid(shown))


def _caption(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "caption"
    model = _loaded(BlipForConditionalGeneration.from_pretrained(folder), context)
    test = context.drawn("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = np.asarray(test.arrays["image"])
    made = generate_captions(model, tokenizer, images, context.device)
    true = [entry["ordered"] for entry in test.texts]
    right = [attributes_of(a) == attributes_of(b) for a, b in zip(made, true, strict=True)]
    word_for_word = [
        a.split() == b.replace(",", " ,").split() for a, b in zip(made, true, strict=True)
    ]
    figures = {
        "attributes_right": float(np.mean(right)),
        "word_for_word": float(np.mean(word_for_word)),
    }
    first = range(min(_NUM_SHOWN, len(images)))
    notes = [f"{'right' if right[i] else 'WRONG'}: {made[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(images[:_NUM_SHOWN], notes))


def _text_to_image(context: EvalContext) -> Measurement:
    """Attributes of generated single-object images, and what the check reads in true drawings."""
    folder = context.checkpoints / "text_to_image"
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(context.device)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [
        mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        for index in range(context.num_scenes)
    ]
    images = generate(pipeline, [captions(scene)[0] for scene in scenes])
    drawn = np.stack([rgb(draw(scene)) for scene in scenes])
    made = [
        correct_attributes(scene, read_scene(image))
        for scene, image in zip(scenes, images, strict=True)
    ]
    true = [
        correct_attributes(scene, read_scene(image))
        for scene, image in zip(scenes, drawn, strict=True)
    ]
    figures = {"attributes_right": float(np.mean([all(right.values()) for right in made]))}
    counts = Counter(name for right in made for name, is_right in right.items() if is_right)
    figures |= {f"{name}_right": counts[name] / len(made) for name in made[0]}
    figures["check_accuracy"] = float(np.mean([all(right.values()) for right in true]))
    return Measurement(figures, pictures.image_grid([images[:_NUM_SHOWN], drawn[:_NUM_SHOWN]]))


def _instruction(context: EvalContext) -> Measurement:
    """Success over the 12 types and of each, with the oracle's beside it."""
    edits = edit_test_scenes(
        context.checkpoints / "instruction", context.num_scenes, EditSampling()
    )
    figures = {
        "success": float(np.mean([edit.is_success for edit in edits])),
        "oracle_success": float(np.mean([edit.is_oracle_success for edit in edits])),
    }
    by_type: dict[str, list[bool]] = defaultdict(list)
    for edit in edits:
        by_type[edit.edit_type].append(edit.is_success)
    figures |= {f"success_{name}": float(np.mean(found)) for name, found in by_type.items()}
    shown = edits[: 2 * _NUM_SHOWN]
    rows = [
        np.stack([getattr(edit, name) for edit in shown[start : start + _NUM_SHOWN]])
        for start in range(0, len(shown), _NUM_SHOWN)
        for name in ("source", "edited", "target")
    ]
    return Measurement(figures, pictures.image_grid(rows))


def _judge(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "judge"
    judge = _loaded(AutoModelForImageTextToText.from_pretrained(folder), context)
    test = context.drawn("asked-pairs", pair_example)
    answers = generate_answers(
        judge, AutoProcessor.from_pretrained(folder), test, range(len(test)), context.device
    )
    values = [edit_score(answer) for answer in answers]
    outcomes = [entry["outcome"] for entry in test.texts]
    figures = {"auc": auc(values, [outcome == "true" for outcome in outcomes])}
    for other in ("failed", "no-op", "over-edited", "other"):
        kept = [i for i, outcome in enumerate(outcomes) if outcome in ("true", other)]
        truths = [outcomes[i] == "true" for i in kept]
        figures[f"auc_{other}"] = auc([values[i] for i in kept], truths)
    before, after, wanted = np.mean(
        [
            _same_attributes(answer, entry["answer"])
            for answer, entry in zip(answers, test.texts, strict=True)
        ],
        axis=0,
    )
    figures |= {"descriptions_right": float(before + after) / 2, "wanted_right": float(wanted)}
    first = range(min(_NUM_SHOWN, len(test)))
    pairs = [
        np.concatenate([test.arrays[name][i] for name in ("source", "edited")], 1) for i in first
    ]
    notes = [f"{outcomes[i]}. {test.texts[i]['instruction']}: {answers[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(np.stack(pairs), notes))


def _same_attributes(answer: str, true: str) -> list[bool]:
    """For each description in a judge's answer, whether the true answer's names the same."""
    both = zip(parse_descriptions(answer), parse_descriptions(true), strict=True)
    return [attributes_of(one) == attributes_of(other) for one, other in both]


def _loaded(model: Any, context: EvalContext) -> Any:
    return model.to(context.device).eval()


MEASURES: dict[str, Callable[[EvalContext], Measurement]] = {
    "vae": _vae,
    "text_to_image": _text_to_image,
    "instruction": _instruction,
    "clip": _clip,
    "clipseg": _clipseg,
    "sam": _sam,
    "caption": _caption,
    "judge": _judge,
}
