"""Timesteps of a sampling run and the noise levels between them.

Levels are DDIM's: a latent at the level `alpha_bar` is sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps
("Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12). `alpha_bar` is called
`alphas_cumprod` in diffusers.

A flow (arXiv 2209.03003, 2210.02747) has latents (1 - sigma) x0 + sigma eps. Divided by the
length of (1 - sigma, sigma) they are DDIM's of one level, and a DDIM step is then Euler's step of
the flow: so one loop, and what steers it, serves both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Window = tuple[float, float]
"""Part of the steps that are walked, from 0 (the first) to 1 (after the last)."""
ALL_STEPS: Window = (0.0, 1.0)
"""Every step that is walked."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step from a noisier to a cleaner level.

    Attributes:
        index: place in the schedule; 0 is the noisiest step.
        timestep: timestep passed to the UNet.
        alpha_bar: level before the step, 0 (noise) to 1 (clean).
        alpha_bar_next: level after it.
    """

    index: int
    timestep: int
    alpha_bar: float
    alpha_bar_next: float

    def noised(self, x0_bchw: "Tensor", noise_bchw: "Tensor") -> "Tensor":
        """Returns clean latents at the level before the step, with some unit noise."""
        return self.alpha_bar**0.5 * x0_bchw + (1.0 - self.alpha_bar) ** 0.5 * noise_bchw


class Schedule(NamedTuple):
    """Every step of a run, and the quantity that the UNet predicts.

    Attributes:
        steps: from noise to clean.
        prediction_type: `epsilon`, `v_prediction`, `sample` or `flow_prediction`.
        alphas_cumprod: level of each timestep of the training, from clean to noise; none of a flow.
    """

    steps: tuple[Step, ...]
    prediction_type: str
    alphas_cumprod: tuple[float, ...]

    def at(self, timestep: int) -> Step:
        """Returns the step from any timestep of the training straight to clean latents.

        Raises:
            IndexError: the training has fewer timesteps.
        """
        return Step(0, timestep, self.alphas_cumprod[timestep], 1.0)


def make_schedule(config: Mapping[str, Any], num_inference_steps: int) -> Schedule:
    """Returns the DDIM schedule of a checkpoint, whatever scheduler it was saved with.

    Args:
        config: the checkpoint's scheduler configuration, such as a PNDMScheduler's.
        num_inference_steps: at least 1.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(dict(config))
    scheduler.set_timesteps(num_inference_steps)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    every_level: tuple[float, ...] = tuple(scheduler.alphas_cumprod.tolist())
    levels = [every_level[timestep] for timestep in timesteps]
    next_levels = [*levels[1:], float(scheduler.final_alpha_cumprod)]
    steps = map(Step, range(len(timesteps)), timesteps, levels, next_levels)
    return Schedule(tuple(steps), scheduler.config.prediction_type, every_level)


def flow_schedule(config: Mapping[str, Any], num_inference_steps: int, mu: float) -> Schedule:
    """Returns the schedule of a flow-matching checkpoint, that of Euler's method.

    Args:
        config: the checkpoint's scheduler configuration.
        num_inference_steps: at least 1.
        mu: shift of the levels where the scheduler shifts by the size of the pictures.
    """
    import numpy as np
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(dict(config))
    even = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
    own = scheduler.config.get("use_flow_sigmas", False)
    scheduler.set_timesteps(num_inference_steps, sigmas=None if own else even, mu=mu)
    sigmas: list[float] = scheduler.sigmas.tolist()
    levels = [alpha_bar_of(sigma) for sigma in sigmas]
    timesteps = [round(1000 * sigma) for sigma in sigmas[:-1]]
    steps = map(Step, range(num_inference_steps), timesteps, levels[:-1], levels[1:])
    return Schedule(tuple(steps), "flow_prediction", ())


def alpha_bar_of(sigma: float) -> float:
    """Returns DDIM's level of a flow's level, the share of noise from 0 (clean) to 1."""
    return (1.0 - sigma) ** 2 / ((1.0 - sigma) ** 2 + sigma**2)


def sigma_of(alpha_bar: float) -> float:
    """Returns the share of noise that a flow has at DDIM's level."""
    signal, spread = alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5
    return spread / (signal + spread)


def walked_steps(strength: float, num_inference_steps: int) -> range:
    """Returns the indices of the steps that an edit walks: the last ones, and at least one.

    Args:
        strength: share of the steps, 0 to 1; 1 starts from pure noise.
        num_inference_steps: steps of the whole schedule.
    """
    count = max(1, round(strength * num_inference_steps))
    return range(num_inference_steps - count, num_inference_steps)


def steps_in(window: Window, walked: range) -> range:
    """Returns the indices of the walked steps that are in a window."""
    start, stop = (walked.start + round(share * len(walked)) for share in window)
    return range(start, stop)
