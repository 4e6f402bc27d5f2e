"""Editors whose text encoder sees pictures, beside diffusers' own processors."""

import importlib.util
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from overpaint.operators.edit import Edit
from PIL import Image

pytestmark = [
    pytest.mark.vision,
    pytest.mark.skipif(
        importlib.util.find_spec("torchvision") is None,
        reason="torchvision is not installed: `make test-vision` has it",
    ),
]
SIDE_PX = 64
PARTS = {"QwenImageEditPlusPipeline": "processor", "LongCatImageEditPipeline": "text_processor"}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """LongCat's pipeline makes a picture of one megapixel: here of 64 x 64."""
    from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit as longcat

    monkeypatch.setattr(longcat, "calculate_dimensions", lambda *_: (SIDE_PX, SIDE_PX))


def with_videos(checkpoint, part):
    """Saves a processor with its part for videos, as published checkpoints have it."""
    from transformers import (
        AutoTokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    folder = Path(checkpoint) / part
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = Qwen2VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor())
    whole.save_pretrained(folder)


@pytest.mark.parametrize("kind", PARTS)
def test_picture_is_that_of_diffusers_with_its_own_processors(kind, checkpoint_of, row):
    checkpoint = checkpoint_of(kind)
    with_videos(checkpoint, PARTS[kind])
    operator = Edit(
        method="transformer",
        checkpoint=checkpoint,
        num_inference_steps=2,
        guidance_scale=1.0,
        resolution=SIDE_PX,
        batch_size=1,
    )
    model = operator.load()
    given = row(1, height=SIDE_PX, width=SIDE_PX, reference_images=None)
    item = operator.prepare(given, model)
    request, picture = item.request, operator.infer([item], model)[0]
    pipeline = getattr(diffusers, kind).from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    source = Image.fromarray(request.picture)
    own = {"image": source, "guidance_scale": 1.0}
    if kind == "QwenImageEditPlusPipeline":
        own = {"image": [source], "true_cfg_scale": 1.0, "height": SIDE_PX, "width": SIDE_PX}
    expected = pipeline(
        prompt=request.prompt,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **own,
    ).images[0]
    # The two ways of resizing what the text encoder sees differ in the last digits.
    assert np.abs(picture - expected * 255.0).mean() < 1.0


@pytest.mark.parametrize("kind", PARTS)
def test_processor_of_pictures_reads_as_the_whole_one(kind, checkpoint_of):
    from overpaint.operators.models.picture_processors import picture_processors
    from overpaint.operators.models.weights import Checkpoint, read_index
    from transformers import Qwen2VLProcessor

    checkpoint, part = checkpoint_of(kind), PARTS[kind]
    with_videos(checkpoint, part)
    whole = Qwen2VLProcessor.from_pretrained(Path(checkpoint) / part)
    ours = picture_processors(Checkpoint(name=checkpoint), read_index(Path(checkpoint)))[part]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (84, 112, 3), np.uint8))
    text = "<|vision_start|><|image_pad|><|vision_end|>make it red"
    given = {"text": [text], "images": [picture], "return_tensors": "pt"}
    one, other = ours(**given), whole(**given)
    assert torch.equal(one["input_ids"], other["input_ids"])
    assert torch.equal(one["image_grid_thw"], other["image_grid_thw"])
    # 84 x 112 pixels are whole patches: nothing is resized, and the pixels are the same.
    assert torch.allclose(one["pixel_values"], other["pixel_values"], atol=1e-5)
