"""Prompt-to-Prompt on an inverted source, kept to the mask where there is one.

Starts on the source's inverted trajectory (DDIM, arXiv 2010.02502) and follows the target prompt.
At first the target's words attend where the source's did (Prompt-to-Prompt, arXiv 2208.01626),
which holds place and size; the source runs along its trajectory, which does not drift. Latents
outside the mask are held to it (Blended Latent Diffusion, arXiv 2206.02779).
"""

from collections.abc import Mapping
from typing import ClassVar

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.prompt_to_prompt import replace_cross_attention
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Window
from overpaint.pipeline import columns as c
from pydantic import Field


class PromptToPrompt(TextGuided):
    """DDIM inversion, text guidance and the source's cross-attention, kept to the mask."""

    papers = ("2208.01626", "2010.02502", "2206.02779")
    family = "F05"
    edit_types = ("color", "replace", "texture", "expression")
    needs = (c.INVERTED_PATH,)
    reads_seed = False
    renamed: ClassVar[Mapping[str, str]] = {"cross_attention_share": "cross_replace_steps"}

    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the trajectory's steps that are walked: how far towards noise the edit starts."""
    cross_replace_steps: float = Field(default=0.6, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's cross-attention."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while its attention is used."""
        return {**super().branches(), "source": (0.0, self.cross_replace_steps)}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's cross-attention."""
        trajectory = batch.trajectory_sbchw
        return Sampling(
            start_bchw=trajectory[batch.steps[0].index],
            branches={"source": BranchInputs(latents=lambda step: trajectory[step.index])},
            attention=replace_cross_attention(batch, (0.0, self.cross_replace_steps)),
            hooks=[keep_outside_on_trajectory(batch)],
        )
