"""AIDI (arXiv 2309.04907): strong guidance where the new words look, weak guidance elsewhere.

The source is inverted by fixed-point iterations (inversion `fixed_point`, solver `anderson` or
`averaged`). The cross-attention of the words that are new in the target prompt gives a soft mask in
each step, by which two strengths of guidance are blended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.attention_maps import RecordCrossAttention
from overpaint.operators.controls.new_words import new_words, places_of
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.operators.diffusion.state import Guidance, StepState
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendedGuidance:
    """Guidance of one strength inside a mask, and of another one outside.

    Attributes:
        inside: guidance where the mask is 1.
        outside: guidance where it is 0.
        mask: returns the mask b1hw of a step.
    """

    inside: Guidance
    outside: Guidance
    mask: "Callable[[StepState], Tensor]"

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the blended prediction, bchw."""
        return self.outside(state).lerp(self.inside(state), self.mask(state))


class AIDI(PromptToPrompt):
    """Prompt-to-Prompt with blended guidance, on a trajectory by fixed-point iterations.

    The paper can add noise inside the mask; here the steps have none.
    """

    papers = ("2309.04907", "2208.01626")
    family = "F02"
    edit_types = ("replace", "color", "texture")

    guidance_scale: float = Field(default=7.0, ge=0, le=100)
    """Scale of classifier-free guidance where the new words look; 7 in the paper."""
    guidance_scale_outside: float = Field(default=1.0, ge=0, le=100)
    """Scale of classifier-free guidance elsewhere; that of the inversion should be the same."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked."""
    mask_threshold: float = Field(default=0.3, gt=0, le=1)
    """Share of a row's greatest attention from which on a place is wholly inside; the mask rises
    to 1 from half of that."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of Prompt-to-Prompt, and the negative one if anything is guided."""
        unguided = self.guidance_scale == self.guidance_scale_outside == 1.0
        return {**super().branches(), **({} if unguided else {"negative": ALL_STEPS})}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; blends the guidance by the attention of each step."""
        sampling, words = super().sampling(batch), new_words(batch)
        recorder, layers = RecordCrossAttention(branch="text"), batch.model.attention.layers

        def mask(state: StepState) -> "Tensor":
            height, width = state.latents_bchw.shape[2:]
            places = places_of(recorder.maps, words, layers, (height, width))
            return (2.0 * places / self.mask_threshold - 1.0).clamp(0.0, 1.0)

        outside = replace(self.guidance, guidance_scale=self.guidance_scale_outside)
        guidance = BlendedGuidance(inside=self.guidance, outside=outside, mask=mask)
        edits = sampling.attention
        recorded = edits._replace(maps=[*edits.maps, recorder])
        return replace(sampling, guidance=guidance, attention=recorded)
