"""StyleDiffusion (arXiv 2303.15649): embeddings for the values of cross-attention alone.

Keys of the source prompt say where words look, values what they bring. Only the values' embedding
is fitted, in each step, so that guidance by the source prompt stays on the inverted trajectory and
words look where they did in the inversion.

Shapes: b rows, n steps, t tokens, d channels, h and w latent pixels.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from overpaint.operators.controls.attention_maps import RecordCrossAttention
from overpaint.operators.controls.new_words import placing_layers
from overpaint.operators.controls.prompt_fit import fitted_rows
from overpaint.operators.controls.row_fit import PathFit
from overpaint.operators.controls.value_prompts import KeysThenValues, with_values
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class StyleDiffusionFit(PathFit):
    """Fits a scale and a shift of the source prompt's embedding, for values.

    The official code has a small network make both of the picture's CLIP embedding; it is trained
    for one picture, so that here they are fitted themselves.
    """

    papers = ("2303.15649",)
    family = "F03"
    needs = (c.INVERTED_PATH,)
    outputs = (c.FITTED_VALUES,)

    num_inner_steps: int = Field(default=100, ge=1, le=1000)
    """Optimisation steps in the first sampling step; they fall by a tenth in each. 100 in the
    official code."""
    map_weight: float = Field(default=1.0, ge=0, le=1000)
    """Weight of the distance of cross-attention maps from those of the inversion; 1 in the official
    code."""

    def inner_steps(self, index: int) -> int:
        """Returns the optimisation steps in a sampling step, by its index."""
        return math.ceil(self.num_inner_steps * math.exp(-0.1 * index))

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source and the negative prompt once, the inner steps, and the step."""
        inner = sum(self.inner_steps(index) for index in range(num_inference_steps))
        return Cost(forward=3 * num_inference_steps + inner, backward=inner, text=1)

    def fit(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the trajectories from noise to clean, and fits the values in each step."""
        import torch

        source, empty = batch.prompts(batch.source_prompts()), batch.negative_prompts("")
        tokens = source.tokens_bsd
        latents, values = batch.trajectory_sbchw[0], [torch.ones_like(tokens), tokens * 0.0]
        steps: list[Tensor] = []
        for step in batch.schedule.steps:
            inverted, recorder = (RecordCrossAttention(branch="text") for _ in range(2))
            with torch.no_grad():
                known = batch.predict(latents, step, {"negative": empty})["negative"]
                path = batch.trajectory_sbchw[step.index]
                batch.predict(path, step, {"text": source}, inverted.edits)
            moved = partial(self._moved, batch, step, latents, known, source, recorder)
            distance = partial(self._distance, batch, inverted.maps, recorder)
            values = self.fitted(batch, step, values, moved, distance)
            with torch.no_grad():
                latents = moved(values)
            steps.append(tokens * values[0] + values[1])
        return fitted_rows(batch, c.FITTED_VALUES.name, torch.stack(steps, dim=1))

    def _moved(
        self,
        batch: Batch,
        step: Step,
        latents: "Tensor",
        negative: "Tensor",
        source: "PromptEmbeds",
        recorder: RecordCrossAttention,
        values: "Sequence[Tensor]",
    ) -> "Tensor":
        """Returns the latents bchw after a guided step with a scale and a shift btd of values."""
        prompts = with_values(source, source.tokens_bsd * values[0] + values[1])
        edits = recorder.edits._replace(qkv=[KeysThenValues()])
        text = batch.predict(latents, step, {"text": prompts}, edits)["text"]
        return batch.advance(latents, step, negative.lerp(text, self.guidance_scale))

    def _distance(
        self, batch: Batch, inverted: "Mapping[str, Tensor]", recorder: RecordCrossAttention
    ) -> "Tensor":
        """Returns the weighted distance b of the recorded maps from those of the inversion."""
        import torch

        side = min(batch.trajectory_sbchw.shape[-2:])
        _, names = placing_layers(batch.model.attention.layers, side)
        errors = [
            (recorder.maps[name] - inverted[name]).float().square().flatten(1).mean(dim=1)
            for name in names
        ]
        return self.map_weight * torch.stack(errors).sum(dim=0)
