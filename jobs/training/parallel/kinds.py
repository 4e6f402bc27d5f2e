"""Examples of the training split by kind: scenes, views, masks, edits, judged pairs and fills."""

import numpy as np
from overpaint.jobs.training.examples import edit_example, mask_example, scene_example
from overpaint.jobs.training.pairs import sample_pair
from overpaint.jobs.training.parallel.fills import NUM_FILL_TEXTS, fill_example
from overpaint.jobs.training.parallel.kind import (
    COUNT,
    IMAGE,
    MASK,
    POSITION,
    Arrays,
    Field,
    Kind,
    token_field,
)
from overpaint.jobs.training.parallel.view_images import view_image
from overpaint.jobs.training.word_ids import MAX_JUDGE_TOKENS, shipped_word_ids
from overpaint.pipeline.edit_types import EDIT_TYPES

NUM_CAPTIONS = 6
NUM_PHRASES = 8
NUM_INSTRUCTIONS = 6


def _draw_scene(index: int) -> Arrays:
    example, ids = scene_example(index, split="train"), shipped_word_ids()
    captions: list[str] = example.texts["captions"]
    return {
        "image": example.arrays["image"],
        "captions": ids.clip_table(captions, NUM_CAPTIONS),
        "num_captions": np.array(min(len(captions), NUM_CAPTIONS), np.uint8),
        "ordered": ids.caption(example.texts["ordered"]),
    }


def _draw_view(index: int) -> Arrays:
    return {"image": view_image(index)}


def _draw_mask(index: int) -> Arrays:
    example = mask_example(index, split="train")
    return {
        "image": example.arrays["image"],
        "mask": (example.arrays["mask"] > 0).astype(np.uint8),
        "phrases": shipped_word_ids().clip_table(example.texts["phrases"], NUM_PHRASES),
    }


def _draw_edit(index: int) -> Arrays:
    example = edit_example(index, split="train")
    phrasings = example.texts["phrasings"]
    return {
        **example.arrays,
        "instructions": shipped_word_ids().clip_table(phrasings, NUM_INSTRUCTIONS),
        "edit_type": np.array(index % len(EDIT_TYPES), np.uint8),
    }


def _draw_pair(index: int) -> Arrays:
    pair = sample_pair(index, split="train")
    ids = shipped_word_ids().judge(pair.instruction, pair.answer)
    return {
        "source": pair.source,
        "edited": pair.edited,
        "tokens": ids.tokens,
        "answer_start": np.array(ids.answer_start, np.int16),
        "length": np.array(ids.length, np.int16),
    }


KINDS: dict[str, Kind] = {
    "scene": Kind(
        _draw_scene,
        {
            "image": IMAGE,
            "captions": token_field(NUM_CAPTIONS),
            "num_captions": COUNT,
            "ordered": token_field(),
        },
    ),
    "view": Kind(_draw_view, {"image": IMAGE}),
    "mask": Kind(_draw_mask, {"image": IMAGE, "mask": MASK, "phrases": token_field(NUM_PHRASES)}),
    "edit": Kind(
        _draw_edit,
        {
            "source": IMAGE,
            "target": IMAGE,
            "instructions": token_field(NUM_INSTRUCTIONS),
            "edit_type": COUNT,
        },
    ),
    "pair": Kind(
        _draw_pair,
        {
            "source": IMAGE,
            "edited": IMAGE,
            "tokens": Field((MAX_JUDGE_TOKENS,), np.int16),
            "answer_start": POSITION,
            "length": POSITION,
        },
    ),
    "fill": Kind(
        fill_example,
        {
            "target": IMAGE,
            "shown": IMAGE,
            "mask": MASK,
            "texts": token_field(NUM_FILL_TEXTS),
            "task": COUNT,
            "is_masked": COUNT,
        },
    ),
}
