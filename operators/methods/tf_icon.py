"""TF-ICON (arXiv 2307.12493): composes an object of a reference into an inverted source.

Source and reference are inverted under the exceptional prompt. The run starts from their composed
noise; at first self-attention is composed of both, and the background is held to the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.exceptional import embed_exceptional
from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.references import pasted_reference
from overpaint.operators.controls.sharing import ShareAttentionTo, self_attention_layers
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.schedule import Window
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline.conditions import BOXES, MASK, REFERENCE_MASK, REFERENCES
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Early:
    """Hook that acts in some steps.

    Attributes:
        hook: hook.
        steps: indices of its steps.
    """

    hook: KeepOutside
    steps: range

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents, corrected in one of the steps."""
        return self.hook(latents_bchw, state) if state.step.index in self.steps else latents_bchw


class TFICON(TextGuided, Framed):
    """Training-free image composition, in the bounding box of the mask or in the first box.

    The reference is scaled to the box and pasted onto the source before it is inverted, so that all
    places agree. The sampler is DDIM, of which 40 steps are about 20 of the official DPM-Solver++.
    """

    papers = ("2307.12493",)
    family = "F06"
    edit_types = ("add", "replace")
    needs = (REFERENCES,)
    uses = (REFERENCE_MASK, MASK, BOXES)

    num_inference_steps: int = Field(default=40, ge=1, le=1000)
    """Steps of both inversions, and of sampling; 20 of another sampler in the official code."""
    guidance_scale: float = Field(default=5.0, ge=0, le=100)
    """Scale of classifier-free guidance; 5 across domains and 2.5 in one in the official code."""
    domain: Literal["cross", "same"] = "cross"
    """Start: `cross` takes fresh noise around the object in its box, `same` the inverted noise of
    the object on the source, in one style."""
    tau_a: float = Field(default=0.4, ge=0, le=1)
    """Share of the steps with composed self-attention, from the first on; 0.4 officially."""
    tau_b: float = Field(default=0.8, ge=0, le=1)
    """Share of the steps in which the background is held to the source; 0.8 officially."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and both pictures while self-attention is composed."""
        composed = (0.0, self.tau_a)
        return {**super().branches(), "source": composed, "reference": composed}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts both inversions."""
        cost = super().cost(num_inference_steps)
        forward = cost.forward + 2 * num_inference_steps
        return replace(cost, forward=forward, vae_encode=2, text=1)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the composed noise."""
        from overpaint.operators.diffusion.latents import latent_masks

        is_cross = self.domain == "cross"
        pasted = [pasted_reference(own, with_surroundings=is_cross) for own in batch.requests]
        exceptional = embed_exceptional(batch.model, len(batch.requests))
        latents = batch.contiguous_source_latents
        source = _inverted(batch, latents, exceptional)
        pictures = batch.encode([own.picture for own in pasted]).contiguous()
        reference = _inverted(batch, pictures, exceptional)
        shape = latent_masks([own.shape for own in pasted], latents)
        region = latent_masks([own.region for own in pasted], latents)
        inside = shape if is_cross else region
        around = batch.noise.where((region >= 0.5) & (inside < 0.5), source[0])
        background = KeepOutside(mask_b1hw=region, source=lambda step: source[step.index + 1])
        return Sampling(
            start_bchw=reference[0].where(inside >= 0.5, around),
            branches={
                "source": BranchInputs(
                    prompts=exceptional, latents=lambda step: source[step.index]
                ),
                "reference": BranchInputs(
                    prompts=exceptional, latents=lambda step: reference[step.index]
                ),
            },
            attention=self._attention(batch, shape),
            hooks=[_Early(hook=background, steps=batch.window((0.0, self.tau_b)))],
        )

    def _attention(self, batch: Batch, shape_b1hw: "Tensor") -> AttentionEdits:
        """Returns the edits that compose queries and keys of both pictures."""
        layers = [layer.name for layer in self_attention_layers(batch)]
        source = ShareAttentionTo(
            parts=("query", "key"),
            layers=layers,
            steps=batch.window((0.0, self.tau_a)),
            to=("text", "negative"),
        )
        reference = replace(source, source="reference", region_b1hw=shape_b1hw)
        return AttentionEdits(qkv=[source, reference])


def _inverted(batch: Batch, latents_bchw: "Tensor", prompts: "PromptEmbeds") -> "list[Tensor]":
    """Returns the trajectory bchw of clean latents, from noise on, under some prompts."""
    from overpaint.operators.diffusion.sampling import ddim_inversion

    predictor = batch.predictor({"text": prompts}, ClassifierFree(guidance_scale=1.0))
    return ddim_inversion(latents_bchw, batch.schedule, predictor, lambda back, last: back(last))
