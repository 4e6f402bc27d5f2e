"""Null-text guidance disturbed: the negative prediction is made at other latents.

"Null-text Guidance in Diffusion Models is Secretly a Cartoon-style Creator" (arXiv 2305.06710).

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rollback:
    """Latents of some steps ago: a hook that keeps them, and the latents of a branch.

    Attributes:
        num_steps: steps ago.
        before_run: returns the latents before a step that is not walked.
        levels: every step of the schedule.
        kept: latents after each walked step, by the index of the next one.
    """

    num_steps: int
    before_run: "Callable[[Step], Tensor]"
    levels: "tuple[Step, ...]"
    kept: "dict[int, Tensor]" = field(default_factory=dict[int, "Tensor"])

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Keeps the latents after a step."""
        self.kept[state.step.index + 1] = latents_bchw
        return latents_bchw

    def at(self, step: Step) -> "Tensor":
        """Returns the latents of some steps before a step, or the first."""
        index = max(step.index - self.num_steps, 0)
        kept = self.kept.get(index)
        return self.before_run(self.levels[index]) if kept is None else kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Disturbed:
    """Classifier-free guidance whose negative noise is that of other latents.

    Attributes:
        batch: rows; its model says in which terms predictions are.
        guidance_scale: scale of the guidance.
        negative_at: returns the latents bchw of the negative prediction in a step.
    """

    batch: Batch
    guidance_scale: float
    negative_at: "Callable[[Step], Tensor]"

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw, in terms of the latents that are denoised."""
        step, latents = state.step, state.latents_bchw
        text = self.batch.eps(latents, step, state.predictions["text"])
        other = self.negative_at(step)
        negative = self.batch.eps(other, step, state.predictions["negative"])
        eps = negative.lerp(text, self.guidance_scale)
        signal, spread = step.alpha_bar**0.5, (1.0 - step.alpha_bar) ** 0.5
        match self.batch.schedule.prediction_type:
            case "v_prediction":
                return (eps - spread * latents) / max(signal, 1e-8)
            case "sample":
                return (latents - spread * eps) / max(signal, 1e-8)
            case _:
                return eps
