"""The timesteps of a sampling run and the noise levels between them.

Levels are DDIM's: a latent at level `alpha` is sqrt(alpha) x clean + sqrt(1 - alpha) x noise
("Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Step:
    """One step from a noisier to a cleaner level.

    Attributes:
        index: 0 is the noisiest step.
        timestep: what the UNet is told.
        alpha: the level before the step, 0 (noise) to 1 (clean).
        alpha_next: the level after it.
    """

    index: int
    timestep: int
    alpha: float
    alpha_next: float


class Schedule(NamedTuple):
    """Every step of a run, and what the UNet predicts.

    Attributes:
        steps: from noise to clean.
        prediction: `epsilon`, `v_prediction` or `sample`.
    """

    steps: tuple[Step, ...]
    prediction: str

    def from_strength(self, strength: float) -> tuple[Step, ...]:
        """The last steps, as many as `strength` (0 to 1) says, at least one."""
        count = max(1, round(strength * len(self.steps)))
        return self.steps[len(self.steps) - count :]


def make_schedule(config: Mapping[str, Any], num_inference_steps: int) -> Schedule:
    """The DDIM schedule of a checkpoint, whatever scheduler it was saved with.

    Args:
        config: the checkpoint's scheduler configuration, such as a PNDMScheduler's.
        num_inference_steps: at least 1.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(dict(config))
    scheduler.set_timesteps(num_inference_steps)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    alphas = [float(scheduler.alphas_cumprod[timestep]) for timestep in timesteps]
    following = [*alphas[1:], float(scheduler.final_alpha_cumprod)]
    steps = map(Step, range(len(timesteps)), timesteps, alphas, following)
    return Schedule(tuple(steps), scheduler.config.prediction_type)
