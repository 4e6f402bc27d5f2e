"""ZONE's region and boxes of proposals, against transcriptions on plain models."""

import io

import diffusers
import numpy as np
import pytest
import torch
from method_batches import batch_of, clean
from method_cases import STEPS, make
from overpaint.operators.finders.proposals import ProposalsFinder
from overpaint.operators.mask import Mask
from overpaint.operators.models import clip as clips
from overpaint.operators.models import sam as sams
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.images import decode_mask
from PIL import Image
from running import failure_code

PIPELINE = "StableDiffusionInstructPix2PixPipeline"
SCALE, IMAGE_SCALE = 5.0, 1.5


class Attending:
    """A plain UNet that keeps the cross-attention of its calls, and of the middle none."""

    def __init__(self, checkpoint):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{checkpoint}/unet").eval()
        self.maps = {}
        for name, part in self.unet.named_modules():
            if name.endswith("attn2") and not name.startswith("mid"):
                part.processor = lambda attn, hidden, encoder_hidden_states=None, name=name, **_: (
                    self.attend(name, attn, hidden, encoder_hidden_states)
                )

    def attend(self, name, attn, hidden, context):
        q, k, v = (
            attn.head_to_batch_dim(part)
            for part in (attn.to_q(hidden), attn.to_k(context), attn.to_v(context))
        )
        maps = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1)
        self.maps[name] = maps.mean(dim=0)
        return attn.to_out[0](attn.batch_to_head_dim(maps @ v))

    @torch.no_grad()
    def __call__(self, x, image, step, prompts):
        return self.unet(torch.cat([x, image], dim=1), step.timestep, prompts.tokens_bsd).sample


def kept_by_hand(batch, plain, end):
    """Twice the difference of both ends' attention, of 255, over a whole edit of one row."""
    text = batch.prompts([batch.requests[0].prompt])
    empty, total = batch.negative_prompts(""), 0.0
    x, image = batch.noise, batch.source_latents / 0.5
    for step in batch.schedule.steps:
        said = plain(x, image, step, text)
        total = total + torch.stack(list(plain.maps.values())).mean(dim=0)
        alone, none = (plain(x, own, step, empty) for own in (image, torch.zeros_like(image)))
        eps = none + SCALE * (said - alone) + IMAGE_SCALE * (alone - none)
        after = step.alpha_bar_next
        x = after**0.5 * clean(x, eps, step.alpha_bar) + (1 - after) ** 0.5 * eps
    ends = [total[:, token].view(8, 8).numpy() for token in (0, end)]
    first, last = (each / each.max() for each in ends)
    return 2 * 255 * np.maximum(first - last, 0)


def test_instruction_acts_where_both_ends_are_attended_to(checkpoint_of, row):
    edit = make("instruct_pix2pix", checkpoint_of, batch_size=1)
    given = row(1, instruction="abc d")
    batch = batch_of(edit, [given])
    finder = Mask(method="zone", guidance_scale=SCALE, attention_threshold=50).finder
    steps = finder.model_copy(update={"num_inference_steps": STEPS})
    heat = steps.heat(batch)[0, 0].numpy()
    kept = kept_by_hand(batch, Attending(checkpoint_of(PIPELINE)), end=5)
    assert np.allclose(heat, 2 - kept / 50, atol=1e-3)
    assert 0 < np.mean(kept > 0) < 1


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_segment_is_the_one_that_overlaps_most(sam):
    loaded = sams.load(Checkpoint(name=sam, part="sam"))
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    region = np.zeros((48, 64), bool)
    region[10:40, 5:30] = True
    best, most = None, -1.0
    for y in (np.arange(3) + 0.5) * 48 / 3:
        for x in (np.arange(3) + 0.5) * 64 / 3:
            inputs = loaded.processor(images=[image], input_points=[[[x, y]]], return_tensors="pt")
            sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
            with torch.inference_mode():
                logits = loaded.model(**inputs, multimask_output=True).pred_masks
            small = np.zeros((32, 32), bool)
            small[:24] = region[::2, ::2]
            for own in logits[0, 0]:
                segment = own.numpy() > 0
                overlap = (segment & small).sum() / (segment | small).sum()
                if overlap > most:
                    process = loaded.processor.image_processor.post_process_masks
                    best, most = process(own[None, None, None], *sizes)[0][0, 0].numpy(), overlap
    fields = {"points_per_side": 3, "threshold": 0.5}
    alone = sams.most_overlapping(loaded, [image], [region], **fields)
    assert np.array_equal(alone[0], best)
    other = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    both = sams.most_overlapping(loaded, [other, image], [~region, region], **fields)
    assert np.array_equal(both[1], best)


@pytest.mark.parametrize(("instruction", "removes"), [("remove the x", True), ("add a x", False)])
def test_segments_are_those_of_the_edit_or_of_what_goes_away(
    instruction, removes, checkpoint_of, sam, row, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        sams, "most_overlapping", lambda _, images, regions, **__: seen.extend(images) or regions
    )
    few = {"resolution": 32, "num_inference_steps": 2, "batch_size": 1}
    finder = Mask(method="zone", checkpoint=checkpoint_of(PIPELINE), sam_checkpoint=sam, **few)
    given = row(1, instruction=instruction)
    finder.run([given], finder.load())
    source = np.asarray(Image.open(io.BytesIO(given["source_image"])))
    assert np.array_equal(np.asarray(seen[0]), source) == removes


def proposals(clip, **fields):
    given = {"half_widths": (4, 8), "num_points": 3, "checkpoint": clip, **fields}
    return Mask(method="proposals", batch_size=1, **given)


def proposal_row(pixels, **columns):
    height_px, width_px = pixels.shape[:2]
    size = {"width_px": width_px, "height_px": height_px}
    return {"source_image": png(pixels), "mask_phrase": "red", "candidate": 0, **size, **columns}


def test_boxes_are_around_the_points_with_the_most_attention():
    attention = np.zeros((4, 4), np.float32)
    attention[1, 2], attention[3, 0] = 2.0, 1.0
    boxes = ProposalsFinder(num_points=2, half_widths=(4, 8)).boxes(attention)
    assert np.allclose(
        boxes,
        [
            (0.5, 0.25, 0.75, 0.5),
            (0.375, 0.125, 0.875, 0.625),
            (0.0, 0.75, 0.25, 1.0),
            (0.0, 0.625, 0.375, 1.0),
        ],
    )


def test_candidates_take_boxes_in_the_order_of_their_likeness(clip):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    finder = proposals(clip)
    model = finder.load()
    masks = [
        decode_mask(finder.run([proposal_row(pixels, candidate=k)], model)[0]["mask_image"], 64, 64)
        for k in range(6)
    ]
    crops = []
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        crops.append(Image.fromarray(inside))
    (text,) = clips.embed_texts(model, ["red"])
    likeness = [float(each @ text) for each in clips.embed_images(model, crops)]
    assert likeness == sorted(likeness, reverse=True)
    assert len({mask.tobytes() for mask in masks}) == 6


def test_attention_is_that_of_the_class_token(clip):
    model = proposals(clip).load()
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    (attention,) = clips.attention(model, [image])
    kept = []
    last = model.model.vision_model.encoder.layers[-1].self_attn
    last.register_forward_hook(lambda _, __, output: kept.append(output[1]))
    clips.embed_images(model, [image])
    assert np.allclose(attention.ravel(), kept[0][0].mean(dim=0)[0, 1:].numpy(), atol=1e-6)


def test_proposals_without_a_phrase_fail_with_a_code(clip):
    row = proposal_row(np.zeros((8, 8, 3), np.uint8), mask_phrase=None, instruction="brighten")
    assert failure_code(proposals(clip), row) == "mask_phrase_missing"
