"""InfEdit (arXiv 2312.04965): edits without inversion, by the denoising diffusion consistent model.

Source and edit are noised with the same noise in every step. The noise is known at the source, so
that the model's error there is known too; the edit's prediction is corrected by it. A target prompt
that is the source's gives the source exactly.
"""

from collections.abc import Mapping

from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.prompt_to_prompt import replace_cross_attention
from overpaint.operators.controls.renoising import DeltaFromSource, renoise
from overpaint.operators.controls.sharing import ShareAttention, self_attention_layers
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row, first_text
from pydantic import Field


class InfEdit(TextGuided, Framed):
    """Denoising whose every step is corrected by the source's own, with its attention.

    The official code has a third branch beside these, with the source's keys and values, for the
    places that its word masks leave out; here a row's mask says what is left out. It wants a
    consistency model, which needs the fewest steps.
    """

    papers = ("2312.04965", "2206.02779")
    family = "F04"
    edit_types = ("color", "replace", "remove", "style")
    needs = (c.SOURCE_PROMPT,)

    num_inference_steps: int = Field(default=15, ge=1, le=1000)
    """Denoising steps; 15 in the official demonstration, for a consistency model."""
    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance of the edit; 7.5 in the official code."""
    source_guidance_scale: float = Field(default=1.0, ge=0, le=100)
    """Scale of classifier-free guidance of the source; 1 in the official code, unguided."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the steps that are walked; 0.8 in the official code."""
    cross_replace_steps: float = Field(default=0.7, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's cross-attention; 0.7 in the
    official demonstration."""
    self_replace_steps: float = Field(default=0.3, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's self-attention; 0.3 in the
    official demonstration."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and of the source's guidance."""
        guided = {} if self.source_guidance_scale == 1.0 else {"source_negative": ALL_STEPS}
        return {**super().branches(), "source": ALL_STEPS, **guided}

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the row's prompts, that of the source among them."""
        source = first_text(row, c.SOURCE_PROMPT)
        return {**super().prompts(row), **({c.SOURCE_PROMPT.name: source} if source else {})}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised sources; holds the latents outside the mask to them."""
        renoised = renoise(batch)
        prompts = [request.values[c.SOURCE_PROMPT.name] for request in batch.requests]
        source = BranchInputs(prompts=batch.prompts(prompts), latents=renoised.source)
        negative = BranchInputs(prompts=batch.negative_prompts(""), latents=renoised.source)
        return Sampling(
            start_bchw=renoised.source(batch.steps[0]),
            guidance=DeltaFromSource(
                inner=self.guidance,
                source=ClassifierFree(guidance_scale=self.source_guidance_scale),
                renoised=renoised,
                batch=batch,
            ),
            noise=renoised,
            branches={"source": source, "source_negative": negative},
            attention=self._attention(batch, prompts),
            hooks=[KeepOutside(mask_b1hw=batch.mask_b1hw, source=renoised.source_after)],
        )

    def _attention(self, batch: Batch, source_prompts: list[str]) -> AttentionEdits:
        """Returns the edits by which words look, and places resemble, as they do in the source."""
        shared = ShareAttention(
            parts=("query", "key"),
            layers={layer.name for layer in self_attention_layers(batch)},
            steps=batch.window((0.0, self.self_replace_steps)),
        )
        window = (0.0, self.cross_replace_steps)
        cross = replace_cross_attention(batch, window, source_prompts)
        return cross._replace(qkv=[shared])
