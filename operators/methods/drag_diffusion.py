"""DragDiffusion (arXiv 2306.14435): optimises noisy latents until features have gone where dragged.

At one level of the inverted path, motion supervision pulls the patch around each point a step
towards its target, and the point is tracked to where its feature went. The way to clean latents
then looks at the source's keys and values.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from overpaint.operators.controls.features import RecordFeatures, decoder_blocks
from overpaint.operators.controls.linear_sampling import resized
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.point_tracking import PointTracks
from overpaint.operators.controls.row_adam import RowAdam
from overpaint.operators.controls.sharing import (
    ShareAttention,
    self_attention_layers,
    source_on_trajectory,
)
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK, POINTS
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class DragDiffusion(LatentMethod):
    """Motion supervision and point tracking in noisy latents, under the source prompt.

    Every point goes its own way: points are not made one warp. A row whose points have all arrived
    is done, and is optimised no further. What is masked out is held to the inverted path as well,
    beside the official code's penalty. The optional LoRA of that code is left out.
    """

    papers = ("2306.14435", "2304.08465")
    family = "F16"
    edit_types = ("move",)
    prompt = c.SOURCE_PROMPT
    needs = (c.INVERTED_PATH, POINTS)
    uses = (MASK,)
    reads_seed = False

    strength: float = Field(default=0.7, gt=0, le=1)
    """Share of the way to noise at which latents are optimised; 0.7 in the official code."""
    n_pix_step: int = Field(default=80, ge=1, le=1000)
    """Optimisation steps; 80 in the official code."""
    lr: float = Field(default=0.01, gt=0, le=10)
    """Learning rate of Adam; 0.01 in the official code."""
    lam: float = Field(default=0.1, ge=0)
    """Weight of the penalty on changes of what is masked out; 0.1 in the official code."""
    r_m: int = Field(default=1, ge=0, le=32)
    """Half of a supervised patch's side without its middle; 1 in the official code."""
    r_p: int = Field(default=3, ge=1, le=32)
    """Half of the side of the window of tracking without its middle; 3 in the official code."""
    unet_feature_idx: int = Field(default=3, ge=1)
    """Block of the decoder whose features are compared, from 1 on, or its last; 3 in the official
    code."""
    start_layer: float = Field(default=0.625, ge=0, le=1)
    """Share of the self-attention layers before the first that looks at the source; layer 10 of 16
    in the official code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns the edit and the source, both under the source prompt and unguided."""
        return dict.fromkeys(("text", "source"), ALL_STEPS)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the optimisation, and the one prompt."""
        cost = super().cost(num_inference_steps)
        steps = Cost(forward=self.n_pix_step, backward=self.n_pix_step)
        return replace(cost, text=1) + steps

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from optimised latents, with mutual self-attention in the later layers."""
        layers = self_attention_layers(batch)
        mutual = ShareAttention(
            parts=("key", "value"),
            layers={layer.name for layer in layers[round(self.start_layer * len(layers)) :]},
            steps=batch.walked,
        )
        return Sampling(
            start_bchw=self._optimised(batch),
            branches={"source": source_on_trajectory(batch)},
            attention=AttentionEdits(qkv=[mutual]),
            hooks=[keep_outside_on_trajectory(batch)],
        )

    def _optimised(self, batch: Batch) -> "Tensor":
        """Returns the latents of the first walked step after the optimisation."""
        import torch

        latents = batch.trajectory_sbchw[batch.steps[0].index]
        tracks, optimizer = self._tracks(batch), RowAdam(self.lr)
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        first: tuple[Tensor, Tensor] | None = None
        for _ in range(self.n_pix_step):
            with torch.enable_grad():
                latents = latents.detach().requires_grad_()
                feature, after = self._seen(batch, latents, prompts)
                if first is None:
                    first = (feature.detach(), after.detach())
                else:
                    tracks.track(first[0], feature.detach())
                change = ((after - first[1]) * (1.0 - batch.mask_b1hw)).abs().sum(dim=(1, 2, 3))
                loss = tracks.motion(feature) + self.lam * change
                (gradient,) = torch.autograd.grad(loss.sum(), latents)
            batch.model.spend(Cost(backward=len(latents)))
            latents = optimizer.step(latents.detach(), gradient, tracks.is_moving_b)
        return latents

    def _seen(
        self, batch: Batch, latents: "Tensor", prompts: "Mapping[str, PromptEmbeds]"
    ) -> "tuple[Tensor, Tensor]":
        """Returns features bchw at half of the picture's size, and the latents after a step."""
        blocks, step = decoder_blocks(batch), batch.steps[0]
        block = blocks[min(self.unet_feature_idx, len(blocks)) - 1].name
        record = RecordFeatures(blocks=[block])
        said = batch.predict(latents, step, prompts, record.edits)["text"]
        height_px, width_px = batch.requests[0].picture.shape[:2]
        size = (height_px // 2, width_px // 2)
        feature = resized(record.features["text", block], size)
        return feature, batch.advance(latents, step, said)

    def _tracks(self, batch: Batch) -> PointTracks:
        """Returns the points of all rows, in pixels of the features.

        Raises:
            RowError: `points_missing`: a row has none.
        """
        import torch

        points = np.stack([request.values[POINTS.name] for request in batch.requests]) / 2.0
        if not points.shape[1]:
            raise RowError("points_missing", "the row has no points")
        start, target = torch.from_numpy(points).float().to(batch.model.device).split(2, dim=2)
        return PointTracks(
            start_bm2=start, target_bm2=target, place_bm2=start, r_m=self.r_m, r_p=self.r_p
        )
