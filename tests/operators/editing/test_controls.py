"""What controls do to latents, before a picture is pasted into its source."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from method_cases import BATCH, check_rows_are_independent, make, ready
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.models.task_labels import TASK_LABELS_FILE
from safetensors.torch import save_file


def sampled(edit, rows):
    """The batch of some rows, and the latents that their method makes."""
    model = edit.load()
    requests = [edit.prepare(row, model).request for row in rows]
    settings = edit.settings
    steps = getattr(settings, "num_inference_steps", None)
    batch = Batch(requests, model[""], num_inference_steps=steps, walked=settings.walked)
    sampling = settings.complete(settings.sampling(batch))
    return batch, batch.run(settings.branches(), sampling)


@pytest.mark.parametrize(
    "method", ["sdedit", "blended_latent_diffusion", "ddim", "prompt_to_prompt", "null_text"]
)
def test_latents_outside_the_mask_are_the_sources(method, checkpoint_of, row):
    edit = make(method, checkpoint_of, mask_dilate_px=0)
    batch, latents = sampled(edit, ready(edit, [row(number) for number in range(BATCH)]))
    is_inverted = edit.settings.needs and "inverted_path" in batch.requests[0].values
    last = batch.steps[-1].alpha_bar_next
    source = batch.trajectory_sbchw[-1] if is_inverted else batch.source.at(last)
    outside = (batch.mask_b1hw == 0).expand_as(latents)
    assert outside.any()
    assert torch.equal(latents[outside], source[outside])
    assert not torch.allclose(latents[~outside], source[~outside], atol=1e-2)


def test_prompt_to_prompt_is_ddim_where_no_attention_is_replaced(checkpoint_of, row):
    rows = ready(make("ddim", checkpoint_of), [row(number) for number in range(BATCH)])
    _, plain = sampled(make("ddim", checkpoint_of), rows)
    _, none = sampled(make("prompt_to_prompt", checkpoint_of, cross_replace_steps=0.0), rows)
    _, every = sampled(make("prompt_to_prompt", checkpoint_of, cross_replace_steps=1.0), rows)
    assert torch.equal(none, plain)
    # Another shape of the batch moves the last digits; attention moves more.
    assert float((every - plain).abs().max()) > 1e-3


def test_sdedit_starts_from_the_noised_source_and_not_from_noise_alone(checkpoint_of, row):
    edit = make("sdedit", checkpoint_of, strength=0.25)
    batch, latents = sampled(edit, [row(number, mask_image=None) for number in range(BATCH)])
    source = batch.source_latents
    error = float((latents - source).square().mean())
    assert 0 < error < 0.5 * float(source.var())


def label_tasks(checkpoint, folder, num_labels=4):
    """A copy of a checkpoint whose UNet knows tasks; label 0 adds nothing."""
    shutil.copytree(checkpoint, folder)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(num_labels, 32, generator=generator)
    weight[0] = 0.0
    save_file({"weight": weight}, folder / TASK_LABELS_FILE)
    return str(folder)


@pytest.fixture
def inpaint(checkpoint_of, tmp_path):
    """The edit `inpaint`, by a checkpoint with task labels."""
    plain = checkpoint_of("StableDiffusionInpaintPipeline")
    return partial(
        make,
        "inpaint-StableDiffusionInpaintPipeline",
        checkpoint_of,
        checkpoint=label_tasks(plain, tmp_path / "labelled"),
    )


def test_task_labels_change_the_picture_and_no_task_is_the_plain_unet(inpaint, checkpoint_of, row):
    rows = [row(number) for number in range(BATCH)]
    plain = make("inpaint", checkpoint_of, paste_back=False)
    edits = [plain, *(inpaint(task=task, paste_back=False) for task in (None, "shape"))]
    _, none, shape = (latents for _, latents in (sampled(edit, rows) for edit in edits))
    assert torch.equal(none, sampled(plain, rows)[1])
    assert not torch.allclose(none, shape, atol=1e-2)


def test_rows_with_a_task_are_independent(inpaint, row):
    check_rows_are_independent(inpaint(task="near_shape"), row)


def test_task_that_a_checkpoint_does_not_know_is_refused(inpaint, checkpoint_of):
    inpaint(task="rough_shape").check()
    with pytest.raises(ValueError, match=r"'object' is label 4: .* has 4 task labels"):
        inpaint(task="object").check()
    plain = checkpoint_of("StableDiffusionInpaintPipeline")
    with pytest.raises(ValueError, match=r"'shape': .* has no task labels: leave task out"):
        inpaint(task="shape", checkpoint=plain).check()


def test_task_labels_count_in_the_identity_and_plain_diffusers_loads_the_rest(inpaint):
    edit = inpaint()
    before = edit.weights.identity()
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(edit.checkpoint)
    assert pipeline.unet.class_embedding is None
    save_file({"weight": torch.zeros(2, 32)}, Path(edit.checkpoint) / TASK_LABELS_FILE)
    assert edit.weights.identity() != before


def test_task_labels_of_another_size_are_refused(inpaint, row):
    edit = inpaint(task="shape")
    save_file({"weight": torch.zeros(4, 8)}, Path(edit.checkpoint) / TASK_LABELS_FILE)
    with pytest.raises(ValueError, match=r"shape \[4, 8\]: the UNet needs labels by 32"):
        edit.load()
