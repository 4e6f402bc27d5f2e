"""LEDITS++ (arXiv 2311.16711): concepts guide inside masks that they find, on the source's noise.

Attention shows where a concept's words look, and the noise where its guidance is strong; the
concept guides in places that have both. Nothing else does, so that the rest comes back exactly.
"""

from dataclasses import replace
from typing import Literal

from overpaint.operators.controls.concept_masks import MaskedConcepts, record_words
from overpaint.operators.controls.concepts import ConceptGuided, concept_branches
from overpaint.operators.controls.residuals import follow_residuals
from overpaint.operators.diffusion.attention import NO_EDITS
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.conditions import EDIT_CONCEPTS
from overpaint.pipeline.cost import Cost
from pydantic import Field


class LeditsPP(ConceptGuided):
    """Edit-friendly DDPM without a target prompt, with masked guidance by concepts.

    The steps are those of DDPM, which the official code has beside a second-order solver. It mixes
    attention heads of different images in a batch; here a mask is of one row alone.
    """

    papers = ("2311.16711", "2304.06140")
    family = "F08"
    edit_types = ("color", "replace", "remove", "texture", "style")
    needs = (c.INVERTED_RESIDUALS, EDIT_CONCEPTS)
    reads_seed = False

    strength: float = Field(default=0.87, gt=0, le=1)
    """Share of the chain's steps that are walked: 1 / 1.15, as the paper skips 15 percent more."""
    negative_prompt: str = ""
    """Prompt that concepts lead away from; empty in the paper."""
    base_prompt: Literal["negative", "source"] = "negative"
    """Base of the concepts: `negative` is the negative prompt, `source` that of the inversion
    instead, for models that know whole captions only."""
    edit_warmup: float = Field(default=0.0, ge=0, le=1)
    """Share of the walked steps before concepts guide; 0 in the paper."""
    use_cross_attn_mask: bool = True
    """Whether concepts guide only where their words look."""
    use_noise_mask: bool = True
    """Whether concepts guide only where their guidance is strong."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts a row with one concept, and the source prompt where it is the base."""
        return super().cost(num_inference_steps) + self._base

    def row_cost(self, row: Row, num_inference_steps: int) -> Cost:
        """Counts the source prompt too where it is the base."""
        return super().row_cost(row, num_inference_steps) + self._base

    @property
    def _base(self) -> Cost:
        return Cost(text=1 if self.base_prompt == "source" else 0)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the source's chain, adds its residuals and the masked guidance."""
        concepts = self.concepts(batch)
        words = record_words(batch, concepts) if self.use_cross_attn_mask else None
        base: dict[str, BranchInputs] = {}
        if self.base_prompt == "source":
            base["negative"] = BranchInputs(prompts=batch.prompts(batch.source_prompts()))
        return replace(
            follow_residuals(batch),
            guidance=MaskedConcepts(
                concepts=concepts,
                mask_b1hw=batch.mask_b1hw,
                words=words,
                use_noise_mask=self.use_noise_mask,
            ),
            attention=NO_EDITS if words is None else words.edits,
            branches={**concept_branches(batch), **base},
            negative_prompt=self.negative_prompt,
        )
