"""Delta Denoising Score: its equations, and what they imply."""

import pytest
import torch
from method_cases import BATCH, make
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.methods.dds import DDS

SD = "dds-StableDiffusionPipeline"


def edited(edit, rows):
    """The batch of some rows, and the latents that a method makes of it."""
    model = edit.load()
    requests = [edit.prepare(row, model).request for row in rows]
    method = edit.settings
    steps = method.num_inference_steps
    batch = Batch(requests, model[""], num_inference_steps=steps, walked=method.walked)
    return batch, method.edited(batch)


@torch.no_grad()
def transcription(batch, index, method):
    """One row of a batch by the equations of arXiv 2304.07090, section 4, written out."""
    model, request = batch.model, batch.requests[index]
    tokenizer, encoder = model.text[0]

    def tokens(prompt):
        padding = {"padding": "max_length", "max_length": tokenizer.model_max_length}
        return encoder(tokenizer(prompt, return_tensors="pt", **padding).input_ids)[0]

    def score(z_t, t, prompt):
        uncond = model.unet(z_t, t, tokens("")).sample
        text = model.unet(z_t, t, tokens(prompt)).sample
        guided = uncond + method.guidance_scale * (text - uncond)
        if batch.schedule.prediction_type == "epsilon":
            return guided
        alpha = batch.schedule.alphas_cumprod[t]
        return alpha**0.5 * guided + (1 - alpha) ** 0.5 * z_t  # v-prediction, arXiv 2202.00512

    z = theta = batch.source_latents[index : index + 1]
    generator = torch.Generator().manual_seed(request.seed)
    for t in method.timesteps():
        eps = torch.randn(z.shape, generator=generator)
        alpha = batch.schedule.alphas_cumprod[t]
        noised = [alpha**0.5 * latents + (1 - alpha) ** 0.5 * eps for latents in (theta, z)]
        target = score(noised[0], t, request.prompt)
        source = score(noised[1], t, request.values["source_prompt"])
        theta = theta - method.learning_rate * (target - source)
    return theta


@pytest.mark.parametrize(
    ("timestep_sampling", "prediction_type"),
    [("uniform", "epsilon"), ("stratified", "epsilon"), ("uniform", "v_prediction")],
)
def test_dds_is_its_equations(timestep_sampling, prediction_type, checkpoint_of, row, monkeypatch):
    fields = {"guidance_scale": 3.0, "learning_rate": 0.3, "timestep_sampling": timestep_sampling}
    edit = make(SD, checkpoint_of, **fields)
    model = edit.load()[""]
    config = {**model.scheduler_config, "prediction_type": prediction_type}
    monkeypatch.setattr(model, "scheduler_config", config)
    batch, latents = edited(edit, [row(number, mask_image=None) for number in range(BATCH)])
    for index in range(BATCH):
        expected = transcription(batch, index, edit.settings)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    assert float((latents - batch.source_latents).abs().max()) > 1e-2


def test_dds_to_the_source_prompt_is_the_source_itself(checkpoint_of, row):
    rows = [row(number, target_prompt=f"source {'abc'[number]}") for number in range(BATCH)]
    batch, latents = edited(make(SD, checkpoint_of), rows)
    assert torch.equal(latents, batch.source_latents)


def test_dds_moves_latents_in_the_mask_alone(checkpoint_of, row):
    edit = make(SD, checkpoint_of, mask_dilate_px=0, learning_rate=1.0)
    batch, latents = edited(edit, [row(number) for number in range(BATCH)])
    outside = (batch.mask_b1hw == 0).expand_as(latents)
    assert torch.equal(latents[outside], batch.source_latents[outside])
    assert not torch.equal(latents[~outside], batch.source_latents[~outside])


def test_dds_timesteps_are_in_their_range_and_stratified_ones_spread_over_it():
    uniform = DDS(num_inference_steps=100, t_min=100, t_max=200).timesteps()
    assert min(uniform) >= 100
    assert max(uniform) < 200
    assert len(set(uniform)) < 100
    fields = {"t_min": 100, "t_max": 200, "timestep_sampling": "stratified"}
    drawn = DDS(num_inference_steps=10, **fields).timesteps()
    assert sorted(t // 10 for t in drawn) == list(range(10, 20))
    assert drawn != sorted(drawn)
    assert drawn == DDS(num_inference_steps=10, **fields).timesteps()
    assert drawn != DDS(num_inference_steps=10, timestep_seed=1, **fields).timesteps()


def test_dds_refuses_timesteps_that_are_no_range():
    with pytest.raises(ValueError, match="t_min = 500: it must be less than t_max = 500"):
        DDS(t_min=500, t_max=500)
