"""The one denoising loop, for batches of unrelated rows, and its inverse.

A step runs the UNet once for all branches, guidance turns the predictions into one, the gradient of
an energy shifts what it means, DDIM moves the latents, and hooks correct them. Nothing here mixes
rows.

Shapes: b rows, c channels (4 of a latent), h and w latent pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from overpaint.operators.diffusion.attention import NO_EDITS, AttentionEdits
from overpaint.operators.diffusion.energy import EnergyGuidance
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.operators.diffusion.prompts import PromptEmbeds
from overpaint.operators.diffusion.schedule import Schedule, Step
from overpaint.operators.diffusion.state import Guidance, Hook, StepState
from overpaint.operators.diffusion.step_noise import NONE, StepNoise
from overpaint.pipeline.cost import Cost
from torch import Tensor

Predictor = Callable[[Tensor, Step], Tensor]
"""Predicts at latents bchw in a step, guided."""

Solver = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""Finds the fixed point of a map, from a start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One prediction of the UNet for every row.

    Attributes:
        prompts: embedded prompts, the same in all steps or by step.
        latents: latents of its own by step; None reads those that are being denoised.
        channels_bchw: more input channels, such as those of an image or a mask.
        steps: indices of the steps in which the branch runs; None runs it in all.
        task_label: task of a UNet that knows task labels, of all rows or of each; 0 is an unknown
            one.
    """

    prompts: PromptEmbeds | Callable[[Step], PromptEmbeds]
    latents: Callable[[Step], Tensor] | None = None
    channels_bchw: Tensor | None = None
    steps: range | None = None
    task_label: int | Sequence[int] = 0

    def prompts_at(self, step: Step) -> PromptEmbeds:
        """Returns the embedded prompts of a step."""
        prompts = self.prompts
        return prompts if isinstance(prompts, PromptEmbeds) else prompts(step)

    def runs_in(self, step: Step) -> bool:
        """Tells whether the branch runs in a step."""
        return self.steps is None or step.index in self.steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """Everything that steers a run.

    Attributes:
        guidance: makes one prediction of those of all branches.
        hooks: correct the latents after each step, in order.
        attention: edits of attention.
        noise: noise of the steps.
        energy: energy that the run lowers beside its guidance, of the branch `text`.
    """

    guidance: Guidance
    hooks: Sequence[Hook] = ()
    attention: AttentionEdits = NO_EDITS
    noise: StepNoise = NONE
    energy: EnergyGuidance | None = None


@torch.no_grad()
def denoise(
    model: LatentModel,
    latents_bchw: Tensor,
    schedule: Schedule,
    steps: Sequence[Step],
    branches: Mapping[str, Branch],
    controls: Controls,
) -> Tensor:
    """Denoises latents along the given steps of a schedule; returns them as float32.

    Args:
        model: network and its attention control.
        latents_bchw: at the level before the first step.
        schedule: schedule that the steps belong to.
        steps: in order, from noisy to clean.
        branches: by name; guidance and attention edits know them by these.
        controls: guidance, energy, hooks, attention edits and noise.
    """
    noise = controls.noise
    for step in steps:
        energy = controls.energy
        if energy is not None and step.index in energy.steps:
            predictions, gradient = predict_and_differentiate(
                model, latents_bchw, step, branches, controls.attention, energy
            )
        else:
            predictions = predict(model, latents_bchw, step, branches, controls.attention)
            gradient = None
        state = StepState(step=step, latents_bchw=latents_bchw, predictions=predictions)
        prediction = controls.guidance(state)
        x0, eps = to_x0_and_eps(prediction, latents_bchw, step.alpha_bar, schedule.prediction_type)
        if energy is not None and gradient is not None:
            x0, eps = energy.shift(x0, eps, gradient, step)
        state = StepState(
            step=step, latents_bchw=latents_bchw, predictions=predictions, x0_bchw=x0, eps_bchw=eps
        )
        latents_bchw = noise.add(ddim_step(x0, eps, step, noise.sigma(step)), step)
        for hook in controls.hooks:
            latents_bchw = hook(latents_bchw, state)
    return latents_bchw


def predict(
    model: LatentModel,
    latents_bchw: Tensor,
    step: Step,
    branches: Mapping[str, Branch],
    attention: AttentionEdits = NO_EDITS,
) -> dict[str, Tensor]:
    """Runs the UNet once; returns the prediction (float32 bchw) of each branch of this step."""
    running = {name: branch for name, branch in branches.items() if branch.runs_in(step)}
    inputs = torch.cat([_inputs(branch, latents_bchw, step) for branch in running.values()])
    prompts = [branch.prompts_at(step) for branch in running.values()]
    labels = [branch.task_label for branch in running.values()]
    prediction = model.evaluate(inputs, step, tuple(running), prompts, labels, attention)
    return dict(zip(running, prediction.float().chunk(len(running)), strict=True))


def predict_and_differentiate(
    model: LatentModel,
    latents_bchw: Tensor,
    step: Step,
    branches: Mapping[str, Branch],
    attention: AttentionEdits,
    energy: EnergyGuidance,
) -> tuple[dict[str, Tensor], Tensor]:
    """Runs the UNet as `predict` does, and differentiates an energy.

    Two calls: the branches beside `text` need no gradient.

    Returns:
        The predictions, and the gradient bchw of each row's own energy by its latents.
    """
    edits = attention.then(energy.energy.edits)
    others = {n: b for n, b in branches.items() if n != "text" and b.runs_in(step)}
    predictions = predict(model, latents_bchw, step, others, edits) if others else {}
    with torch.enable_grad():
        latents_bchw = latents_bchw.detach().requires_grad_()
        text = predict(model, latents_bchw, step, {"text": branches["text"]}, edits)
        state = StepState(step=step, latents_bchw=latents_bchw, predictions=predictions | text)
        # Summed: the gradient of a row's energy by the latents of another is 0.
        (gradient,) = torch.autograd.grad(energy.energy(state).sum(), latents_bchw)
    model.spend(Cost(backward=len(latents_bchw)))
    return predictions | {"text": text["text"].detach()}, gradient


def to_x0_and_eps(
    prediction: Tensor, latents: Tensor, alpha_bar: float, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """Splits a prediction at a noise level into the clean latents and the noise.

    Raises:
        ValueError: a prediction type that no checkpoint of this shape has.
    """
    signal, spread = alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5
    match prediction_type:
        case "epsilon":
            return (latents - spread * prediction) / signal, prediction
        case "v_prediction":
            return signal * latents - spread * prediction, spread * latents + signal * prediction
        case "sample":
            return prediction, (latents - signal * prediction) / max(spread, 1e-8)
        case "flow_prediction":
            # The latents of a flow are a mean of source and noise: these, less spread out.
            shrink = 1.0 / (signal + spread)
            flow = shrink * latents
            velocity = shrink * prediction
            return flow - spread * velocity, flow + signal * velocity
        case _:
            raise ValueError(f"prediction_type = {prediction_type!r} of the checkpoint's scheduler")


def to_prediction(eps: Tensor, latents: Tensor, alpha_bar: float, prediction_type: str) -> Tensor:
    """Returns the prediction that means some noise at some latents.

    Raises:
        ValueError: a prediction type that no checkpoint of this shape has.
    """
    signal, spread = alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5
    match prediction_type:
        case "epsilon":
            return eps
        case "v_prediction":
            return (eps - spread * latents) / signal
        case "sample":
            return (latents - spread * eps) / signal
        case "flow_prediction":
            # The latents of a flow are a mean of source and noise: these, less spread out.
            shrink = 1.0 / (signal + spread)
            flow = shrink * latents
            return (eps - flow) / max(signal * shrink, 1e-8)
        case _:
            raise ValueError(f"prediction_type = {prediction_type!r} of the checkpoint's scheduler")


@torch.no_grad()
def ddim_inversion(
    latents_bchw: Tensor, schedule: Schedule, predictor: Predictor, solve: Solver
) -> list[Tensor]:
    """Inverts clean latents to noise; returns the trajectory from noise to clean, float32.

    DDIM read backwards needs a prediction at latents that are not known yet: they are a fixed
    point. One call of the predictor, at the last known ones, is DDIM inversion (arXiv 2010.02502).

    Args:
        latents_bchw: clean.
        schedule: its steps are walked back; the trajectory has one entry more than it has steps.
        predictor: predicts under the source prompts.
        solve: solver of each step.
    """
    trajectory = [latents_bchw]
    for step in reversed(schedule.steps):
        back = partial(_ddim_step_back, trajectory[-1], predictor, step, schedule.prediction_type)
        trajectory.append(solve(back, trajectory[-1]))
    return trajectory[::-1]


def _ddim_step_back(
    last: Tensor, predictor: Predictor, step: Step, prediction_type: str, guess: Tensor
) -> Tensor:
    """Returns the latents from which a DDIM step, predicted at `guess`, would reach `last`."""
    _, eps = to_x0_and_eps(predictor(guess, step), guess, step.alpha_bar, prediction_type)
    x0 = (last - (1.0 - step.alpha_bar_next) ** 0.5 * eps) / step.alpha_bar_next**0.5
    return step.alpha_bar**0.5 * x0 + (1.0 - step.alpha_bar) ** 0.5 * eps


def ddim_step(x0: Tensor, eps: Tensor, step: Step, sigma: float = 0.0) -> Tensor:
    """Returns the mean of the next latents, equation 12 of arXiv 2010.02502.

    Args:
        x0: clean latents by the prediction.
        eps: noise by the prediction.
        step: its levels.
        sigma: spread of the noise that is added to the mean; 0 adds none.
    """
    direction = max(1.0 - step.alpha_bar_next - sigma**2, 0.0) ** 0.5
    return step.alpha_bar_next**0.5 * x0 + direction * eps


def _inputs(branch: Branch, latents_bchw: Tensor, step: Step) -> Tensor:
    own = latents_bchw if branch.latents is None else branch.latents(step)
    return own if branch.channels_bchw is None else torch.cat([own, branch.channels_bchw], dim=1)
