"""Measures of the checkpoints that read images: clip, clipseg, sam, caption and judge."""

import numpy as np
from overpaint.jobs.training import pictures
from overpaint.jobs.training.caption import attributes_of, generate_captions
from overpaint.jobs.training.clip import best_captions, rank1_accuracy
from overpaint.jobs.training.clipseg import iou, mask_images, predict_masks
from overpaint.jobs.training.examples import mask_example, scene_example
from overpaint.jobs.training.judge import auc, edit_score, generate_answers, parse_descriptions
from overpaint.jobs.training.measurement import NUM_SHOWN, EvalContext, Measurement
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.sam import box_prompts, point_prompts, segment
from overpaint.operators.models import sam as sam_operator
from overpaint.operators.models.weights import Checkpoint
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
)


def measure_clip(context: EvalContext) -> Measurement:
    """Measures how often a scene's caption is the nearest of 64."""
    folder = context.checkpoints / "clip"
    clip = context.loaded(CLIPModel.from_pretrained(folder))
    test = context.test_examples("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = np.asarray(test.arrays["image"])
    best = best_captions(clip, tokenizer, test, range(min(64, len(test))), context.device)
    return Measurement(
        {"rank1_of_64": rank1_accuracy(clip, tokenizer, test, context.device)},
        pictures.image_grid([images[:NUM_SHOWN], images[best[:NUM_SHOWN]]]),
    )


def measure_clipseg(context: EvalContext) -> Measurement:
    """Measures the IoU of the masks of named objects."""
    folder = context.checkpoints / "clipseg"
    clipseg = context.loaded(CLIPSegForImageSegmentation.from_pretrained(folder))
    test = context.test_examples("masks", mask_example)
    phrases = [entry["phrases"][0] for entry in test.texts]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    predicted = predict_masks(clipseg, tokenizer, images, phrases, context.device)
    ious = iou(masks, predicted)
    shown = [images[:NUM_SHOWN], *(mask_images(m[:NUM_SHOWN]) for m in (masks, predicted))]
    return Measurement(
        {"iou_mean": float(ious.mean()), "iou_p5": float(np.percentile(ious, 5))},
        pictures.image_grid(shown),
    )


def measure_sam(context: EvalContext) -> Measurement:
    """Measures the IoU from the box around an object, and from its innermost point."""
    sam = sam_operator.load(Checkpoint(name=str(context.checkpoints / "sam")))
    test = context.test_examples("masks", mask_example)
    images, masks = np.asarray(test.arrays["image"]), test.arrays["mask"] > 127
    figures: dict[str, float] = {}
    shown = [images[:NUM_SHOWN], mask_images(masks[:NUM_SHOWN])]
    for name, selections in (("box", box_prompts(masks)), ("point", point_prompts(masks))):
        predicted = segment(sam, images, selections)
        ious = iou(masks, predicted)
        figures[f"iou_{name}_mean"] = float(ious.mean())
        figures[f"iou_{name}_p5"] = float(np.percentile(ious, 5))
        shown.append(mask_images(predicted[:NUM_SHOWN]))
    return Measurement(figures, pictures.image_grid(shown))


def measure_caption(context: EvalContext) -> Measurement:
    """Measures how often a caption names all attributes of its scene."""
    folder = context.checkpoints / "caption"
    model = context.loaded(BlipForConditionalGeneration.from_pretrained(folder))
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
    first = range(min(NUM_SHOWN, len(images)))
    notes = [f"{'right' if right[i] else 'WRONG'}: {written[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(images[:NUM_SHOWN], notes))


def measure_judge(context: EvalContext) -> Measurement:
    """Measures how well scores tell true edits from others, and what answers say."""
    folder = context.checkpoints / "judge"
    judge = context.loaded(AutoModelForImageTextToText.from_pretrained(folder))
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
    first = range(min(NUM_SHOWN, len(test)))
    pairs = [
        np.concatenate([test.arrays[name][i] for name in ("source", "edited")], 1) for i in first
    ]
    notes = [f"{outcomes[i]}. {test.texts[i]['instruction']}: {answers[i]}" for i in first]
    return Measurement(figures, pictures.captioned_images(np.stack(pairs), notes))


def _same_attributes(answer: str, true: str) -> list[bool]:
    """Tells for each caption in a judge's answer whether it names the true answer's attributes."""
    both = zip(parse_descriptions(answer), parse_descriptions(true), strict=True)
    return [attributes_of(caption) == attributes_of(expected) for caption, expected in both]
