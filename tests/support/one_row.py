"""One row through an inversion and a method, and the model's plain predictions beside it."""

import torch
from method_cases import BATCH, STEPS, make
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.prompts import embed, embed_negative
from overpaint.operators.diffusion.schedule import make_schedule
from overpaint.operators.fit import Fit
from overpaint.operators.invert import Invert

SD = "StableDiffusionPipeline"


def inverted(method, checkpoint_of, row, **fields):
    """A row without a mask, with what an inversion adds to it."""
    fields = {"num_inference_steps": STEPS, "batch_size": BATCH, **fields}
    operator = Invert(method=method, checkpoint=checkpoint_of(SD), **fields)
    return {**row, "mask_image": None, **operator.run([row], operator.load())[0]}


def fitted(method, checkpoint_of, row, **fields):
    """An inverted row with what a fit adds to it."""
    operator = Fit(method=method, checkpoint=checkpoint_of(SD), batch_size=BATCH, **fields)
    return {**row, **operator.run([row], operator.load())[0]}


def one_batch(edit, row, size=BATCH):
    """A full batch of one row, as every stage has: sums may depend on its size."""
    editors = edit.load()
    request = edit.prepare(row, editors).request
    steps = getattr(edit.own, "num_inference_steps", None)
    model = editors[""]
    return Batch([request] * size, model, num_inference_steps=steps, walked=edit.own.walked)


def edited(method, checkpoint_of, row, **fields):
    """The clean latents that a method makes of a row."""
    edit = make(method, checkpoint_of, **fields)
    return edit.own.edited(one_batch(edit, row))[:1]


def steps_of(model, number=STEPS):
    """The steps of a model's schedule."""
    return make_schedule(model.scheduler_config, number).steps


def noise(model, latents, step, prompt):
    """The noise of one row under a prompt, or under embedded tokens."""
    tokens = embed(model, [prompt]).tokens_bsd if isinstance(prompt, str) else prompt
    return model.unet(latents, step.timestep, encoder_hidden_states=tokens).sample


def guided(model, latents, step, prompt, scale, negative=""):
    """The noise by classifier-free guidance, a call for each prompt."""
    if negative == "":
        negative = embed_negative(model, "", 1).tokens_bsd
    other = noise(model, latents, step, negative)
    return other + scale * (noise(model, latents, step, prompt) - other)


def clean(latents, eps, step):
    """The clean latents that some noise means."""
    return (latents - (1 - step.alpha_bar) ** 0.5 * eps) / step.alpha_bar**0.5


def after(latents, eps, step):
    """The latents after a DDIM step with some noise."""
    x0 = clean(latents, eps, step)
    return step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next) ** 0.5 * eps


def path(row):
    """The trajectory of an inverted row, s1chw."""
    return row["inverted_path"].trajectory_schw[:, None]


def close(one, other):
    return torch.allclose(one, other, atol=1e-4)
