"""Evaluation of each checkpoint on test scenes, as `overpaint bench checkpoints` reports it.

Every measure loads a checkpoint from its folder with plain `from_pretrained`, as any user would, or
through the operator that uses it, and draws a sample sheet.
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
from numpy.typing import NDArray
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
from overpaint.jobs.training.scene_reader import SceneReading, correct_attributes, read_scene
from overpaint.jobs.training.text_to_image import generate
from overpaint.jobs.training.vae import reconstruct
from overpaint.operators.models import sam as sam_operator
from overpaint.operators.models.weights import Checkpoint
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
"""Figures that checkpoints are to reach, by checkpoint and figure."""


class Figure(NamedTuple):
    """Measured figure of a checkpoint.

    Attributes:
        name: name of the figure, such as `iou_mean`.
        value: value of the figure.
        num_scenes: number of test scenes behind it.
    """

    name: str
    value: float
    num_scenes: int


class Measurement(NamedTuple):
    """Result of one measure.

    Attributes:
        figures: values by name.
        sheet: sample sheet of the first scenes.
    """

    figures: dict[str, float]
    sheet: Image.Image


class Evaluation(NamedTuple):
    """Evaluation of one checkpoint.

    Attributes:
        figures: figures of the checkpoint.
        sheet: sample sheet of the first scenes.
    """

    figures: list[Figure]
    sheet: Image.Image


class EvalContext(NamedTuple):
    """Folders, device and number of scenes of an evaluation.

    Attributes:
        checkpoints: folder with one folder for each checkpoint.
        caches: folder of the cached test scenes.
        num_scenes: number of test scenes.
        device: device of the models.
    """

    checkpoints: Path
    caches: Path
    num_scenes: int = 512
    device: torch.device = _CPU

    def test_examples(self, name: str, draw_example: Callable[..., Example]) -> Cache:
        """Opens the test examples of a kind, and draws them first if they do not exist."""
        return open_cache(
            self.caches / f"{name}-test-{self.num_scenes}",
            partial(draw_example, split="test"),
            self.num_scenes,
            num_processes=1,
        )


def measure(name: str, context: EvalContext) -> Evaluation:
    """Evaluates a checkpoint.

    Args:
        name: one of `MEASURES`.
        context: folders, device and number of scenes.

    Raises:
        ValueError: `name` is not one of `MEASURES`.
    """
    if name not in MEASURES:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(MEASURES)}")
    with torch.no_grad():
        values, sheet = MEASURES[name](context)
    figures = [Figure(figure, value, context.num_scenes) for figure, value in values.items()]
    return Evaluation(figures, sheet)


def _vae(context: EvalContext) -> Measurement:
    vae = _loaded(AutoencoderKL.from_pretrained(context.checkpoints / "vae"), context)
    images = np.asarray(context.test_examples("scenes-all", scene_example).arrays["image"])
    decoded = reconstruct(vae, images)
    psnr_db = pictures.psnr(images, decoded)
    figures = {
        "psnr_db_mean": float(psnr_db.mean()),
        "psnr_db_p5": float(np.percentile(psnr_db, 5)),
    }
    return Measurement(figures, pictures.image_grid([images[:_NUM_SHOWN], decoded[:_NUM_SHOWN]]))


def _clip(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "clip"
    clip = _loaded(CLIPModel.from_pretrained(folder), context)
    test = context.test_examples("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = np.asarray(test.arrays["image"])
    best = best_captions(clip, tokenizer, test, range(min(64, len(test))), context.device)
    return Measurement(
        {"rank1_of_64": rank1_accuracy(clip, tokenizer, test, context.device)},
        pictures.image_grid([images[:_NUM_SHOWN], images[best[:_NUM_SHOWN]]]),
    )


def _clipseg(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "clipseg"
    clipseg = _loaded(CLIPSegForImageSegmentation.from_pretrained(folder), context)
    test = context.test_examples("masks", mask_example)
    phrases = [entry["phrases"][0] for entry in test.texts]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    predicted = predict_masks(clipseg, tokenizer, images, phrases, context.device)
    ious = iou(masks, predicted)
    shown = [images[:_NUM_SHOWN], *(mask_images(m[:_NUM_SHOWN]) for m in (masks, predicted))]
    return Measurement(
        {"iou_mean": float(ious.mean()), "iou_p5": float(np.percentile(ious, 5))},
        pictures.image_grid(shown),
    )


def _sam(context: EvalContext) -> Measurement:
    """Measures the IoU from the box around an object, and from its innermost point."""
    sam = sam_operator.load(Checkpoint(name=str(context.checkpoints / "sam")))
    test = context.test_examples("masks", mask_example)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    figures: dict[str, float] = {}
    shown = [images[:_NUM_SHOWN], mask_images(masks[:_NUM_SHOWN])]
    for name, selections in (("box", box_prompts(masks)), ("point", point_prompts(masks))):
        predicted = segment(sam, images, selections)
        ious = iou(masks, predicted)
        figures[f"iou_{name}_mean"] = float(ious.mean())
        figures[f"iou_{name}_p5"] = float(np.percentile(ious, 5))
        shown.append(mask_images(predicted[:_NUM_SHOWN]))
    return Measurement(figures, pictures.image_grid(shown))


def _caption(context: EvalContext) -> Measurement:
    folder = context.checkpoints / "caption"
    model = _loaded(BlipForConditionalGeneration.from_pretrained(folder), context)
    test = context.test_examples("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = np.asarray(test.arrays["image"])
    written = generate_captions(model, tokenizer, images, context.device)
    both = list(zip(written, [entry["ordered"] for entry in test.texts], strict=True))
    right = [attributes_of(caption) == attributes_of(true) for caption, true in both]
    word_for_word = [caption.split() == true.replace(",", " ,").split() for caption, true in both]
    figures = {
        "attributes_right": float(np.mean(right)),
        "word_for_word": float(np.mean(word_for_word)),
    }
    first = range(min(_NUM_SHOWN, len(images)))
    notes = [f"{'right' if right[i] else 'WRONG'}: {written[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(images[:_NUM_SHOWN], notes))


def _text_to_image(context: EvalContext) -> Measurement:
    """Measures attributes of generated single-object images, as `read_scene` reads them."""
    folder = context.checkpoints / "text_to_image"
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(context.device)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [
        mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        for index in range(context.num_scenes)
    ]
    images = generate(pipeline, [captions(scene)[0] for scene in scenes])
    drawn = np.stack([rgb(draw(scene)) for scene in scenes])
    generated = [correct_attributes(*pair) for pair in zip(scenes, _read(images), strict=True)]
    true = [correct_attributes(*pair) for pair in zip(scenes, _read(drawn), strict=True)]
    figures = {"attributes_right": float(np.mean([all(right.values()) for right in generated]))}
    counts = Counter(name for right in generated for name, is_right in right.items() if is_right)
    figures |= {f"{name}_right": counts[name] / len(generated) for name in generated[0]}
    figures["check_accuracy"] = float(np.mean([all(right.values()) for right in true]))
    return Measurement(figures, pictures.image_grid([images[:_NUM_SHOWN], drawn[:_NUM_SHOWN]]))


def _read(images: NDArray[np.uint8]) -> list[SceneReading]:
    return [read_scene(image) for image in images]


def _instruction(context: EvalContext) -> Measurement:
    """Measures success over the 12 types and of each, and the oracle's success."""
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
    figures |= {f"success_{name}": float(np.mean(values)) for name, values in by_type.items()}
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
    test = context.test_examples("judge-pairs", pair_example)
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
    both = zip(answers, test.texts, strict=True)
    is_right = [_same_attributes(answer, entry["answer"]) for answer, entry in both]
    before, after, wanted = np.mean(is_right, axis=0)
    figures |= {"descriptions_right": float(before + after) / 2, "wanted_right": float(wanted)}
    first = range(min(_NUM_SHOWN, len(test)))
    pairs = [
        np.concatenate([test.arrays[name][i] for name in ("source", "edited")], 1) for i in first
    ]
    notes = [f"{outcomes[i]}. {test.texts[i]['instruction']}: {answers[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(np.stack(pairs), notes))


def _same_attributes(answer: str, true: str) -> list[bool]:
    """Tells for each caption in a judge's answer whether it names the true answer's attributes."""
    both = zip(parse_descriptions(answer), parse_descriptions(true), strict=True)
    return [attributes_of(caption) == attributes_of(expected) for caption, expected in both]


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
