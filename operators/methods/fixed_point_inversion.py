"""Fixed-point inversion as an editor (FPI, arXiv 2312.12540): Prompt-to-Prompt on an exact path.

The source is inverted by the inversion `fixed_point`, which that paper iterates 20 to 30 times
under guidance of 2. The edit holds the source's self-attention for most of the steps.
"""

from collections.abc import Mapping
from dataclasses import replace

from overpaint.operators.controls.new_words import CrossAttentionReweight, new_words
from overpaint.operators.controls.sharing import ShareAttention, self_attention_layers
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import Window
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from pydantic import Field


class FixedPointInversionEdit(PromptToPrompt):
    """Prompt-to-Prompt with the source's self-attention, and weight on the new words.

    The official code draws the source anew from its inverted noise; here it runs along its path.
    """

    papers = ("2312.12540", "2208.01626")
    family = "F02"
    edit_types = ("color", "replace", "texture")

    guidance_scale: float = Field(default=2.0, ge=0, le=100)
    """Scale of classifier-free guidance; that of the inversion should be the same. 2 in the
    official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    cross_replace_steps: float = Field(default=0.1, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's cross-attention; 0.1 in the
    official demonstration."""
    self_replace_steps: float = Field(default=0.9, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's self-attention; 0.9 in the
    official demonstration."""
    equalizer: float = Field(default=100.0, ge=0, le=1000)
    """Factor of the attention to the new words while the source's cross-attention is used; 100 in
    the official demonstration, 1 leaves the attention as it is."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while its attention is used."""
        last = max(self.cross_replace_steps, self.self_replace_steps)
        return {**super().branches(), "source": (0.0, last)}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's attention, reweighted."""
        sampling = super().sampling(batch)
        shared = ShareAttention(
            parts=("query", "key"),
            layers={layer.name for layer in self_attention_layers(batch)},
            steps=batch.window((0.0, self.self_replace_steps)),
            branches=("text",),
        )
        reweight = CrossAttentionReweight(
            words_bt=new_words(batch),
            scale=self.equalizer,
            steps=batch.window((0.0, self.cross_replace_steps)),
        )
        edits = sampling.attention
        attention = edits._replace(qkv=[shared], maps=[*edits.maps, reweight])
        return replace(sampling, attention=attention)
