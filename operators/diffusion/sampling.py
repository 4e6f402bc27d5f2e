"""The one denoising loop, for batches of unrelated rows, and its inverse.

A step asks the UNet once for all branches, guidance turns their answers into one, DDIM moves the
latents, and hooks correct them. Nothing here mixes rows.

Shapes: b rows, c channels (4 of a latent), y and x latent pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from overpaint.operators.diffusion.attention import NO_EDITS, AttentionEdits
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.operators.diffusion.prompts import Condition
from overpaint.operators.diffusion.schedule import Schedule, Step
from torch import Tensor

Guidance = Callable[[Mapping[str, Tensor], Step], Tensor]
"""From each branch's answer (bcyx) to the one that the step follows."""

Hook = Callable[[Tensor, Step], Tensor]
"""Corrects the latents (bcyx) after a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One question to the UNet about every row.

    Attributes:
        condition: what it is told.
        latents: latents of its own by step; None reads those that are being denoised.
        channels_bcyx: more input channels, such as an image or a mask to go by.
        steps: the steps, by index, in which it is asked; None asks in all.
    """

    condition: Condition
    latents: Callable[[Step], Tensor] | None = None
    channels_bcyx: Tensor | None = None
    steps: range | None = None

    def is_asked(self, step: Step) -> bool:
        """Whether it is asked in a step."""
        return self.steps is None or step.index in self.steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """What steers a run.

    Attributes:
        guidance: makes one answer of all.
        hooks: correct the latents after each step, in order.
        attention: edits of attention.
        noise: fresh noise bcyx of a step, scaled by `eta` (DDIM's); None for none.
        eta: 0 (deterministic) to 1 (as much noise as DDPM).
    """

    guidance: Guidance
    hooks: Sequence[Hook] = ()
    attention: AttentionEdits = NO_EDITS
    noise: Callable[[], Tensor] | None = None
    eta: float = 0.0


@torch.no_grad()
def denoise(
    model: LatentModel,
    latents_bcyx: Tensor,
    schedule: Schedule,
    steps: Sequence[Step],
    branches: Mapping[str, Branch],
    controls: Controls,
) -> Tensor:
    """Latents after the given steps of a schedule, float32.

    Args:
        model: UNet and its switch.
        latents_bcyx: at the level before the first step.
        schedule: what the steps belong to.
        steps: in order, from noisy to clean.
        branches: by name; guidance and attention controls know them by these.
        controls: what steers the run.
    """
    for step in steps:
        answers = ask(model, latents_bcyx, step, branches, controls.attention)
        answer = controls.guidance(answers, step)
        clean, noise = split_answer(answer, latents_bcyx, step.alpha, schedule.prediction)
        latents_bcyx = _step(clean, noise, step, controls)
        for hook in controls.hooks:
            latents_bcyx = hook(latents_bcyx, step)
    return latents_bcyx


def ask(
    model: LatentModel,
    latents_bcyx: Tensor,
    step: Step,
    branches: Mapping[str, Branch],
    attention: AttentionEdits = NO_EDITS,
) -> dict[str, Tensor]:
    """The UNet's answer (float32 bcyx) for each branch that is asked in this step."""
    asked = {name: branch for name, branch in branches.items() if branch.is_asked(step)}
    inputs = torch.cat([_inputs(branch, latents_bcyx, step) for branch in asked.values()])
    tokens = torch.cat([branch.condition.tokens_bsd for branch in asked.values()])
    dtype = model.unet.dtype
    with model.switch.on(attention, tuple(asked), step):
        answer: Tensor = model.unet(
            inputs.to(dtype),
            step.timestep,
            encoder_hidden_states=tokens.to(dtype),
            added_cond_kwargs=_added(model, asked, inputs),
            return_dict=False,
        )[0]
    model.num_evaluations += len(inputs)
    return dict(zip(asked, answer.float().chunk(len(asked)), strict=True))


def split_answer(
    answer: Tensor, latents: Tensor, alpha: float, prediction: str
) -> tuple[Tensor, Tensor]:
    """The clean latents and the noise that an answer means, at the level `alpha`.

    Raises:
        ValueError: a prediction type that no checkpoint of this shape has.
    """
    signal, spread = alpha**0.5, (1.0 - alpha) ** 0.5
    match prediction:
        case "epsilon":
            return (latents - spread * answer) / signal, answer
        case "v_prediction":
            return signal * latents - spread * answer, spread * latents + signal * answer
        case "sample":
            return answer, (latents - signal * answer) / max(spread, 1e-8)
        case _:
            raise ValueError(f"prediction_type = {prediction!r} of the checkpoint's scheduler")


@torch.no_grad()
def invert(
    model: LatentModel,
    latents_bcyx: Tensor,
    schedule: Schedule,
    condition: Condition,
    num_fixed_point_iterations: int = 0,
) -> list[Tensor]:
    """The latents' path to noise: first the noise, last the clean latents, float32.

    DDIM read backwards asks at a point that is not known yet. It takes the last known one for it
    (arXiv 2010.02502) and may improve on that by fixed-point iterations ("AIDI", arXiv 2309.04907).

    Args:
        model: the UNet.
        latents_bcyx: clean.
        schedule: whose steps are walked back; the path has one entry more than it has steps.
        condition: the source prompt.
        num_fixed_point_iterations: 0 for plain DDIM inversion; each asks the UNet once more.
    """
    branches = {"source": Branch(condition=condition)}
    path = [latents_bcyx]
    for step in reversed(schedule.steps):
        known = path[-1]
        guess = known
        for _ in range(1 + num_fixed_point_iterations):
            answer = ask(model, guess, step, branches)["source"]
            guess = _step_back(known, guess, answer, step, schedule.prediction)
        path.append(guess)
    return path[::-1]


def _step_back(known: Tensor, guess: Tensor, answer: Tensor, step: Step, prediction: str) -> Tensor:
    """The point from which a DDIM step with this answer would reach `known`."""
    _, noise = split_answer(answer, guess, step.alpha, prediction)
    clean = (known - (1.0 - step.alpha_next) ** 0.5 * noise) / step.alpha_next**0.5
    return step.alpha**0.5 * clean + (1.0 - step.alpha) ** 0.5 * noise


def _step(clean: Tensor, noise: Tensor, step: Step, controls: Controls) -> Tensor:
    """DDIM's step, equation 12 of arXiv 2010.02502."""
    spread = 0.0
    if controls.noise is not None and controls.eta > 0.0:
        ratio = (1.0 - step.alpha_next) / (1.0 - step.alpha)
        spread = controls.eta * (ratio * (1.0 - step.alpha / step.alpha_next)) ** 0.5
    direction = max(1.0 - step.alpha_next - spread**2, 0.0) ** 0.5
    latents = step.alpha_next**0.5 * clean + direction * noise
    if controls.noise is not None and spread > 0.0:
        latents = latents + spread * controls.noise()
    return latents


def _inputs(branch: Branch, latents_bcyx: Tensor, step: Step) -> Tensor:
    own = latents_bcyx if branch.latents is None else branch.latents(step)
    return own if branch.channels_bcyx is None else torch.cat([own, branch.channels_bcyx], dim=1)


def _added(
    model: LatentModel, asked: Mapping[str, Branch], inputs_bcyx: Tensor
) -> dict[str, Any] | None:
    """SDXL's further inputs: pooled prompts, and that the picture is neither scaled nor cropped."""
    pooled = [branch.condition.pooled_bp for branch in asked.values()]
    if any(part is None for part in pooled):
        return None
    height, width = (side * model.factor_px for side in inputs_bcyx.shape[2:])
    times = torch.tensor([height, width, 0, 0, height, width], device=inputs_bcyx.device)
    return {
        "text_embeds": torch.cat([part for part in pooled if part is not None]),
        "time_ids": times.to(model.unet.dtype).expand(len(inputs_bcyx), -1),
    }
