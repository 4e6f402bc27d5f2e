"""Semantic guidance: each concept moves a prediction where the concept matters most.

SEGA (arXiv 2301.12247), and its first form, the Stable Artist (arXiv 2212.06013). Every threshold
is a row's own.

Shapes: k concepts, b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.concepts import (
    ConceptGuided,
    Concepts,
    concept_branches,
    row_quantile,
)
from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.diffusion.batch import Batch, BranchInputs
from overpaint.operators.diffusion.schedule import ALL_STEPS, Step, Window
from overpaint.operators.diffusion.state import StepState
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class Semantic(ConceptGuided, TextGuided):
    """A method with classifier-free guidance, to which concepts add theirs with momentum."""

    edit_momentum_scale: float = Field(default=0.1, ge=0, le=1)
    """Share of the momentum that is added in each step; 0.1 in diffusers."""
    edit_mom_beta: float = Field(default=0.4, ge=0, lt=1)
    """Share of the momentum that stays from step to step; 0.4 in diffusers."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of every row; each concept of a row has one more."""
        return {**super().branches(), "text": ALL_STEPS}

    def semantic(self, batch: Batch) -> "SemanticGuidance":
        """Returns the guidance of a batch, whose momentum starts from nothing."""
        return SemanticGuidance(
            base=self.guidance,
            concepts=self.concepts(batch),
            momentum_scale=self.edit_momentum_scale,
            mom_beta=self.edit_mom_beta,
        )

    def concept_inputs(self, batch: Batch) -> dict[str, BranchInputs]:
        """Returns the branches of the concepts, and `text` with the prompts of the inversion."""
        if self.prompt is not None:
            return concept_branches(batch)
        source = BranchInputs(prompts=batch.prompts(batch.source_prompts()))
        return {**concept_branches(batch), "text": source}


@dataclass(kw_only=True, eq=False, slots=True)
class SemanticGuidance:
    """SEGA: the tails of each concept's guidance, weighted, with momentum.

    Momentum is built up by all concepts, and added once all of them are past their warm-up. Before
    that, those that are past it guide alone, with their own weights, as the paper says; diffusers
    makes their weights sum to 1 until then.

    Attributes:
        base: guidance by the prompt.
        concepts: concepts of the batch.
        momentum_scale: share of the momentum that is added.
        mom_beta: share of the momentum that stays.
        momentum_bchw: momentum of the step before; None in the first.
    """

    base: ClassifierFree
    concepts: Concepts
    momentum_scale: float
    mom_beta: float
    momentum_bchw: "Tensor | None" = None

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        return self.base(state) + self.semantics(state)

    def guides(self, state: StepState) -> "Tensor":
        """Returns the guidance of each concept, kbchw: its tails by channel, as in diffusers."""
        guidance = self.concepts.scale_kb111 * self.concepts.directions(state)
        return guidance * is_in_tails(guidance, self.concepts.threshold_kb111)

    def weights(self, state: StepState) -> "Tensor":
        """Returns the weights of the concepts, kb111."""
        del state
        return self.concepts.weight_kb111

    def semantics(self, state: StepState) -> "Tensor":
        """Returns the guidance of all concepts, bchw, and moves the momentum on."""
        is_warm = self.concepts.is_warm(state)
        weighted = self.guides(state) * self.weights(state) * self.concepts.is_not_cool(state)
        whole, beta = weighted.sum(dim=0), self.mom_beta
        before = whole.new_zeros(()) if self.momentum_bchw is None else self.momentum_bchw
        whole = whole + self.momentum_scale * before
        self.momentum_bchw = beta * before + (1.0 - beta) * whole
        return whole.where(is_warm.all(dim=0), (weighted * is_warm).sum(dim=0))


@dataclass(kw_only=True, eq=False, slots=True)
class StableArtistGuidance(SemanticGuidance):
    """The Stable Artist: concepts guide where they and the prompt do not agree yet.

    Weights of the concepts that run are made to sum to 1, and the scale of the guidance by the
    prompt is that of the concepts too.

    Attributes:
        to_eps: returns the noise bchw that a prediction at some latents means.
    """

    to_eps: "Callable[[Tensor, Step, Tensor], Tensor]"

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        return self.base(state) + self.base.guidance_scale * self.semantics(state)

    def guides(self, state: StepState) -> "Tensor":
        """Returns the guidance of each concept, kbchw, with a scale of its own at each place."""
        import torch

        sign, concepts = self.concepts.sign_kb111, self.concepts
        text, *others = (
            self.to_eps(state.latents_bchw, state.step, state.predictions[name])
            for name in ("text", *concepts.names)
        )
        lead = text - torch.stack(others)
        scale = (concepts.scale_kb111 * lead.abs()).clamp(max=1.0)
        is_apart = sign * lead > sign * concepts.threshold_kb111
        return scale * is_apart * concepts.directions(state)

    def weights(self, state: StepState) -> "Tensor":
        """Returns the weights of the concepts, kb111; those that run sum to 1."""
        running = self.concepts.weight_kb111 * self.concepts.is_not_cool(state)
        return running / running.sum(dim=0).clamp_min(1e-12)


def is_in_tails(guidance_kbchw: "Tensor", share_kb111: "Tensor") -> "Tensor":
    """Tells which values of each channel are as far from 0 as a quantile of them, kbchw."""
    size = guidance_kbchw.abs()
    share = share_kb111.expand(*size.shape[:3], 1, 1)[..., 0]
    return size >= row_quantile(size.flatten(3), share)[..., None]
