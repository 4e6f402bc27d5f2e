"""Local Prompt Mixing (arXiv 2303.11306): shape variations of one object of an inverted source.

In the steps in which shapes form, words attend where the source's do, but mean those of the target
prompt (Mix-and-Match). Self-attention of objects to preserve is the source's, and late in the run
the background is set to the source's, by segments of self-attention.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.mixing import BlendOnce, KeepSelfAttention
from overpaint.operators.controls.observing import (
    ObserveAttention,
    coarse_cross_layers,
    half_resolution_self_layers,
    normalised,
    observe_source,
)
from overpaint.operators.controls.segments import name_weights, object_segment
from overpaint.operators.controls.sharing import ShareAttentionTo, source_on_trajectory
from overpaint.operators.controls.words import phrase_weights, phrases_of
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from torch import Tensor


class LocalPromptMixing(TextGuided):
    """Prompt mixing, with objects and background of the source localized by attention.

    Names of segments are the words of a prompt without articles and prepositions, where the
    official code asks for a tagger's nouns. The source runs along its inverted path.
    """

    papers = ("2303.11306",)
    family = "F05"
    edit_types = ("replace", "resize")
    needs = (c.INVERTED_PATH, c.MASK_PHRASE)
    uses = (MASK,)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    start_prompt_range: float = Field(default=0.14, ge=0, le=1)
    """Share of the walked steps before the target's words; step 7 of 50 in the official code."""
    end_prompt_range: float = Field(default=0.34, ge=0, le=1)
    """Share of the walked steps after which they end; step 17 of 50 in the official code."""
    objects_to_preserve: tuple[str, ...] = ()
    """Words of the source prompt whose things keep the source's self-attention; a row whose prompt
    lacks a word leaves the word out."""
    end_preserved_obj_self_attn_masking: float = Field(default=0.8, ge=0, le=1)
    """Share of the walked steps with that self-attention; 40 of 50 in the official code."""
    obj_pixels_injection_threshold: float = Field(default=0.05, ge=0, le=1)
    """Least attention to the words of a thing, in the range of its map; 0.05 in the official
    code."""
    num_segments: int = Field(default=5, ge=2, le=64)
    """Clusters of self-attention; 5 in the official code."""
    background_segment_threshold: float = Field(default=0.3, ge=0, le=1)
    """Least attention to a word that names a segment; 0.3 in the official code."""
    background_blend_timestep: float = Field(default=0.7, ge=0, le=1)
    """Share of the walked steps before the background is blended; step 35 of 50 in the official
    code, 1 is never."""

    @model_validator(mode="after")
    def _range_has_steps(self) -> "LocalPromptMixing":
        if self.start_prompt_range > self.end_prompt_range:
            raise ValueError(
                f"start_prompt_range = {self.start_prompt_range}: "
                f"it is after end_prompt_range = {self.end_prompt_range}"
            )
        return self

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source, whose words say where to look."""
        return {**super().branches(), "source": ALL_STEPS}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source's own run, which is observed."""
        cost = super().cost(num_inference_steps)
        return replace(cost, forward=cost.forward + len(self.walked(num_inference_steps)))

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the observed source's segments."""
        source, text = self._observers(batch)
        observe_source(batch, source)
        layers = batch.model.attention.layers
        keys = ShareAttentionTo(
            parts=("key",),
            layers={layer.name for layer in layers if layer.is_cross},
            steps=batch.walked,
            to=("text",),
        )
        preserved = KeepSelfAttention(
            region_b1hw=self._preserved(batch, source),
            steps=batch.window((0.0, self.end_preserved_obj_self_attn_masking)),
        )
        kept = [preserved] if self.objects_to_preserve else []
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={
                "source": source_on_trajectory(batch),
                "text": self._mixed_prompts(batch),
            },
            attention=AttentionEdits(qkv=[keys], maps=[*kept, text]),
            hooks=[*self._blend(batch, source, text), keep_outside_on_trajectory(batch)],
        )

    def _mixed_prompts(self, batch: Batch) -> BranchInputs:
        """Returns the target prompts in the steps of their range, and the source's in others."""
        target = batch.prompts([request.prompt for request in batch.requests])
        source = batch.prompts(batch.source_prompts())
        steps = batch.window((self.start_prompt_range, self.end_prompt_range))
        return BranchInputs(prompts=lambda step: target if step.index in steps else source)

    def _observers(self, batch: Batch) -> tuple[ObserveAttention, ObserveAttention]:
        """Returns those of the source and of the edit; both see the source's words."""
        prompts = batch.source_prompts()
        objects = phrase_weights(batch.model, prompts, phrases_of(batch))
        words = name_weights(batch.model, prompts, objects, self.objects_to_preserve)
        layers = batch.model.attention.layers
        cross, own = coarse_cross_layers(layers), half_resolution_self_layers(layers)
        source, text = (
            ObserveAttention(branch=branch, words_bwk=words, cross_layers=cross, self_layers=own)
            for branch in ("source", "text")
        )
        return source, text

    def _preserved(self, batch: Batch, source: ObserveAttention) -> "Tensor":
        """Returns the places b1hw of things to preserve, without those of the edited object."""
        height, width = batch.trajectory_sbchw.shape[3:]
        maps = normalised(source.words((height, width)))
        seen = maps > self.obj_pixels_injection_threshold
        kept = seen[:, 1 : 1 + len(self.objects_to_preserve)].any(dim=1, keepdim=True)
        return (kept & ~seen[:, :1]).float()

    def _blend(
        self, batch: Batch, source: ObserveAttention, text: ObserveAttention
    ) -> list[BlendOnce]:
        """Returns the hook that blends the background, where there is a step for it."""
        after = batch.window((self.background_blend_timestep, 1.0))
        if not after:
            return []
        height, width = batch.trajectory_sbchw.shape[3:]
        seeds = [request.seed for request in batch.requests]

        def segment() -> "Tensor":
            found = [
                object_segment(
                    observed,
                    seeds,
                    num_segments=self.num_segments,
                    threshold=self.background_segment_threshold,
                    size=(height, width),
                )
                for observed in (source, text)
            ]
            return found[0].maximum(found[1])

        step = after.start
        return [BlendOnce(step=step, segment=segment, source_bchw=batch.trajectory_sbchw[step + 1])]
