"""EDICT's coupled pair (arXiv 2211.12446): two latents that step by each other's predictions.

Each member moves by the prediction at the other, which both directions know, so that the steps can
be undone exactly. Members are mixed after each step, or they would drift apart. The pair is
float64, as rounding grows when the mixing is undone; the UNet need not be.

Shapes: b rows, c latent channels, h and w latent pixels; a pair b2hw has its first member's
channels before the second's (2 is 2 c).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.operators.diffusion.sampling import (
    Branch,
    Controls,
    Predictor,
    predict,
    to_x0_and_eps,
)
from overpaint.operators.diffusion.schedule import Schedule, Step
from overpaint.operators.diffusion.state import StepState
from torch import Tensor


@torch.no_grad()
def denoise_coupled(
    model: LatentModel,
    latents_bchw: Tensor,
    schedule: Schedule,
    steps: Sequence[Step],
    branches: Mapping[str, Branch],
    controls: Controls,
    mixing_coeff: float,
) -> Tensor:
    """Denoises pairs along the given steps; returns their first members as float32.

    Args:
        model: UNet and its attention control.
        latents_bchw: pairs b2hw at the level before the first step, float64.
        schedule: schedule that the steps belong to.
        steps: in order, from noisy to clean.
        branches: by name.
        controls: guidance and attention edits; hooks correct pairs, and see the step alone.
        mixing_coeff: share of a member that mixing leaves to it.
    """
    predictor = partial(_guided, model, branches, controls)
    pair = latents_bchw.double()
    for step in steps:
        first, second = _in_turn(pair, step)
        first = _forward(first, second, predictor, step, schedule)
        second = _forward(second, first, predictor, step, schedule)
        x, y = _in_turn(torch.cat([first, second], dim=1), step)
        x = mixing_coeff * x + (1.0 - mixing_coeff) * y
        y = mixing_coeff * y + (1.0 - mixing_coeff) * x
        pair = torch.cat([x, y], dim=1)
        state = StepState(step=step, latents_bchw=pair, predictions={})
        for hook in controls.hooks:
            pair = hook(pair, state)
    return pair.chunk(2, dim=1)[0].float()


@torch.no_grad()
def invert_coupled(
    latents_bchw: Tensor, schedule: Schedule, predictor: Predictor, mixing_coeff: float
) -> list[Tensor]:
    """Undoes the steps from clean latents; returns the pairs b2hw from noise to clean, float64.

    Args:
        latents_bchw: clean; both members start there.
        schedule: its steps are undone.
        predictor: predicts under the source prompts.
        mixing_coeff: that of the edit.
    """
    pairs = [torch.cat([latents_bchw, latents_bchw], dim=1).double()]
    for step in reversed(schedule.steps):
        x, y = pairs[-1].chunk(2, dim=1)
        y = (y - (1.0 - mixing_coeff) * x) / mixing_coeff
        x = (x - (1.0 - mixing_coeff) * y) / mixing_coeff
        first, second = _in_turn(torch.cat([x, y], dim=1), step)
        second = _backward(second, first, predictor, step, schedule)
        first = _backward(first, second, predictor, step, schedule)
        pairs.append(torch.cat(_in_turn(torch.cat([first, second], dim=1), step), dim=1))
    return pairs[::-1]


def _in_turn(pair: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Returns the members in the order in which they move, or back in their own.

    It alternates (`leapfrog_steps`), counted from the noisy end, so that both directions agree for
    any number of steps; diffusers' script counts from either end and is inexact for odd numbers.
    """
    x, y = pair.chunk(2, dim=1)
    return (x, y) if step.index % 2 == 0 else (y, x)


def _coefficients(step: Step) -> tuple[float, float]:
    """Returns a and b of DDIM's step as `a latents + b eps`."""
    if step.alpha_bar == 0.0:
        raise ValueError("EDICT cannot undo a step from pure noise (a zero terminal SNR)")
    scale = (step.alpha_bar_next / step.alpha_bar) ** 0.5
    return scale, (1.0 - step.alpha_bar_next) ** 0.5 - scale * (1.0 - step.alpha_bar) ** 0.5


def _eps(other: Tensor, predictor: Predictor, step: Step, schedule: Schedule) -> Tensor:
    prediction = predictor(other, step).double()
    return to_x0_and_eps(prediction, other, step.alpha_bar, schedule.prediction_type)[1]


def _forward(
    member: Tensor, other: Tensor, predictor: Predictor, step: Step, schedule: Schedule
) -> Tensor:
    a, b = _coefficients(step)
    return a * member + b * _eps(other, predictor, step, schedule)


def _backward(
    member: Tensor, other: Tensor, predictor: Predictor, step: Step, schedule: Schedule
) -> Tensor:
    a, b = _coefficients(step)
    return (member - b * _eps(other, predictor, step, schedule)) / a


def _guided(
    model: LatentModel,
    branches: Mapping[str, Branch],
    controls: Controls,
    latents_bchw: Tensor,
    step: Step,
) -> Tensor:
    predictions = predict(model, latents_bchw, step, branches, controls.attention)
    state = StepState(step=step, latents_bchw=latents_bchw, predictions=predictions)
    return controls.guidance(state)
