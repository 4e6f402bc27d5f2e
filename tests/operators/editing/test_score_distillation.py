"""Delta and Contrastive Denoising Score: their equations, and what they imply."""

import pytest
import torch
from method_cases import BATCH, check_cost, check_rows_are_independent, make
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.methods.dds import DDS
from torch.nn import functional

SD = "dds-StableDiffusionPipeline"
CDS = "cds-StableDiffusionPipeline"


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


def contrast(source, target, n_patches, generator):
    """The loss of CDS's equations 8 and 9 for one layer: features of one row, 1cyx."""
    losses = []
    for patch in (1, 2):
        one, other = (
            functional.normalize(functional.avg_pool2d(f, patch), dim=1)[0].flatten(1).T
            for f in (source, target)
        )
        if len(one) > n_patches:
            chosen = torch.randperm(len(one), generator=generator)[:n_patches]
            one, other = one[chosen], other[chosen]
        labels = torch.arange(len(one))
        losses.append(functional.cross_entropy(one @ other.T / 0.07, labels))
    return sum(losses)


def cds_transcription(batch, index, method):
    """One row of a batch by arXiv 2311.18608, unguided, with hooks on the attention modules."""
    unet, request = batch.model.unet, batch.requests[index]
    outputs, side = {}, 8
    hooks = [
        part.register_forward_hook(
            lambda _, inputs, output, name=name: outputs.update(
                {name: output.transpose(1, 2).unflatten(2, (side, side))}
            )
        )
        for name, part in unet.named_modules()
        if name.startswith("up_blocks") and name.endswith("attn1")
    ]
    tokens = [
        batch.prompts([prompt]).tokens_bsd
        for prompt in (request.values["source_prompt"], request.prompt)
    ]
    z = batch.source_latents[index : index + 1]
    theta, generator = z.clone(), torch.Generator().manual_seed(request.seed)
    for t in method.timesteps():
        eps = torch.randn(z.shape, generator=generator)
        alpha = batch.schedule.alphas_cumprod[t]
        theta = theta.detach().requires_grad_()
        z_t, theta_t = (alpha**0.5 * x + (1 - alpha) ** 0.5 * eps for x in (z, theta))
        source = unet(z_t, t, tokens[0]).sample
        references = dict(outputs)
        target = unet(theta_t, t, tokens[1]).sample
        loss = sum(
            contrast(references[n], outputs[n], method.n_patches, generator) for n in outputs
        )
        cut = torch.autograd.grad(loss, theta)[0]
        dds = method.learning_rate * (target - source)
        theta = (theta - dds - 0.1 * method.w_cut * cut).detach()
    for hook in hooks:
        hook.remove()
    return theta


def test_cds_is_its_equations(checkpoint_of, row):
    fields = {"guidance_scale": 1.0, "learning_rate": 0.3, "w_cut": 3.0, "n_patches": 20}
    edit = make(CDS, checkpoint_of, **fields)
    batch, latents = edited(edit, [row(number, mask_image=None) for number in range(BATCH)])
    for index in range(BATCH):
        expected = cds_transcription(batch, index, edit.settings)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)


def test_cds_without_contrast_is_dds(checkpoint_of, row):
    rows = [row(number) for number in range(BATCH)]
    fields = {"guidance_scale": 2.0, "learning_rate": 1.0}
    _, dds = edited(make(SD, checkpoint_of, **fields), rows)
    _, none = edited(make(CDS, checkpoint_of, w_cut=0.0, **fields), rows)
    _, strong = edited(make(CDS, checkpoint_of, w_cut=30.0, **fields), rows)
    assert torch.equal(none, dds)
    assert float((strong - dds).abs().max()) > 1e-2


def test_cds_draws_patches_of_a_row_by_its_own_seed(checkpoint_of, row):
    check_rows_are_independent(make(CDS, checkpoint_of, n_patches=5), row)


def test_cds_without_contrast_has_no_backward_pass(checkpoint_of, row):
    check_cost(make(CDS, checkpoint_of, w_cut=0.0, guidance_scale=1.0), row)
