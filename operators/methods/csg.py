"""CSG (arXiv 2305.18007): conditional score guidance for image-to-image translation.

A mask says where the words that change were attended to in the source. Outside of the mask,
cross-attention is mixed with the source's, and latents are pulled to the source's by the score of
the posterior.
"""

from collections.abc import Mapping
from dataclasses import replace

from overpaint.operators.controls.conditional_score import (
    MixCrossAttention,
    PosteriorGuidance,
    matched_words,
    smoothed_mask,
)
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.observing import (
    ObserveAttention,
    coarse_cross_layers,
    observe_source,
)
from overpaint.operators.controls.sharing import self_attention_layers, source_on_trajectory
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field


class CSG(TextGuided):
    """Cross-attention mixup and the posterior's score, under a mask of the changed words.

    The official code mixes the maps of the negative prompt as well, with those of the source's own
    negative prediction. Here the source runs along its inverted path, under its prompt alone.
    """

    papers = ("2305.18007",)
    family = "F05"
    edit_types = ("replace", "style")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=5.0, ge=0, le=100)
    """Scale of classifier-free guidance; 5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    posterior_guidance: float = Field(default=10.0, ge=0, le=100)
    """Scale of the pull to the source outside the mask; 10 in the official script, for 50 steps."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source, whose cross-attention is mixed in."""
        return {**super().branches(), "source": ALL_STEPS}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source's own run, which is observed."""
        cost = super().cost(num_inference_steps)
        return replace(cost, forward=cost.forward + len(self.walked(num_inference_steps)))

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the mask of the observed source."""
        words, changed = matched_words(batch)
        observed = ObserveAttention(
            branch="source",
            words_bwk=changed[:, None],
            cross_layers=coarse_cross_layers(batch.model.attention.layers),
            self_layers=[self_attention_layers(batch)[-1].name],
        )
        observe_source(batch, observed)
        trajectory = batch.trajectory_sbchw
        height, width = trajectory.shape[3:]
        mask = smoothed_mask(observed, (height, width))
        pull = PosteriorGuidance(
            scale=self.posterior_guidance,
            mask_b1hw=mask,
            trajectory_sbchw=trajectory,
            walked=batch.walked,
        )
        return Sampling(
            start_bchw=trajectory[batch.steps[0].index],
            branches={"source": source_on_trajectory(batch)},
            attention=AttentionEdits(maps=[MixCrossAttention(words_bst=words, mask_b1hw=mask)]),
            hooks=[pull, keep_outside_on_trajectory(batch)],
        )
