"""StyleDiffusion as an editor (arXiv 2303.15649): Prompt-to-Prompt with fitted values.

In the first steps the values of the target's cross-attention are those that the fit
`style_diffusion` found for the source; later ones are the target prompt's own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.fitted import fitted_tokens
from overpaint.operators.controls.sharing import ShareAttention, self_attention_layers
from overpaint.operators.controls.value_prompts import KeysThenValues, with_values
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Step, Window
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from overpaint.pipeline import columns as c
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class StyleDiffusion(PromptToPrompt):
    """Prompt-to-Prompt with fitted values, and the source's self-attention in both predictions."""

    papers = ("2303.15649", "2208.01626")
    family = "F03"
    edit_types = ("style", "color", "texture", "replace")
    needs = (c.INVERTED_PATH, c.FITTED_VALUES)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the fit should be the same."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    tau_v: float = Field(default=0.5, ge=0, le=1)
    """Share of the walked steps, from the first on, with the fitted values; 0.5 in the official
    code."""
    self_replace_steps: float = Field(default=0.6, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's self-attention in the
    target's prediction (`tau_s`); 0.6 in the official code."""
    tau_u: float = Field(default=0.0, ge=0, le=1)
    """The same for the negative prediction; 0 in the official code, 0.5 where structure should be
    held more."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while its attention is used."""
        last = max(self.cross_replace_steps, self.self_replace_steps, self.tau_u)
        return {**super().branches(), "source": (0.0, last)}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with fitted values and the source's attention."""
        sampling = super().sampling(batch)
        target = batch.prompts([request.prompt for request in batch.requests])
        tokens, fitted_steps = fitted_tokens(batch, c.FITTED_VALUES), batch.window((0, self.tau_v))
        fixed = {"negative": batch.negative_prompts(self.negative_prompt)}
        if batch.window(self.branches()["source"]):
            fixed["source"] = batch.prompts(batch.source_prompts())

        def text(step: Step) -> "PromptEmbeds":
            return with_values(target, tokens(step) if step.index in fitted_steps else None)

        inputs = {
            name: replace(sampling.branches.get(name, BranchInputs()), prompts=with_values(embeds))
            for name, embeds in fixed.items()
        }
        layers = {layer.name for layer in self_attention_layers(batch)}
        shared = [
            ShareAttention(
                parts=("query", "key"),
                layers=layers,
                steps=batch.window((0.0, share)),
                branches=(branch,),
            )
            for branch, share in (("text", self.self_replace_steps), ("negative", self.tau_u))
        ]
        edits = sampling.attention._replace(qkv=[KeysThenValues(), *shared])
        branches = {**inputs, "text": BranchInputs(prompts=text)}
        return replace(sampling, branches=branches, attention=edits)
