"""Fits of a prompt for each step, by which guidance stays on the inverted trajectory.

Guidance has two predictions. One of their prompts is fitted, the other stays as it is.

Shapes: b rows, n steps, t tokens, d channels, h and w latent pixels.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from overpaint.operators.controls.row_fit import PathFit
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inversion import FittedEmbeds
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor

Role = Literal["text", "negative"]
"""Prompt of classifier-free guidance: the source's, or the empty one."""


class PromptFit(PathFit):
    """A fit of one prompt of the guidance by the source prompt."""

    role: ClassVar[Role]
    """Prompt that is fitted."""
    needs = (c.INVERTED_PATH,)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the other prompt once, the inner steps, and the step that is taken then."""
        forward = num_inference_steps * (self.num_inner_steps + 2)
        backward = num_inference_steps * self.num_inner_steps
        return Cost(forward=forward, backward=backward, text=1)

    def fit(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the trajectories from noise to clean, and fits the prompt in each step."""
        import torch

        source, empty = batch.prompts(batch.source_prompts()), batch.negative_prompts("")
        start, other = (empty, source) if self.role == "negative" else (source, empty)
        latents, tokens, steps = batch.trajectory_sbchw[0], start.tokens_bsd, []
        for step in batch.schedule.steps:
            embeds = start._replace(tokens_bsd=tokens)
            embeds, latents = self.fitted_step(batch, step, latents, embeds, other)
            tokens = embeds.tokens_bsd
            steps.append(tokens)
        return fitted_rows(batch, self.outputs[0].name, torch.stack(steps, dim=1))

    def fitted_step(
        self,
        batch: Batch,
        step: Step,
        latents: "Tensor",
        start: "PromptEmbeds",
        other: "PromptEmbeds",
    ) -> "tuple[PromptEmbeds, Tensor]":
        """Returns the fitted prompts of a step, and the latents bchw after the step with them.

        Args:
            batch: rows.
            step: sampling step.
            latents: latents bchw before the step.
            start: prompts that are fitted, as they start.
            other: the other prompts of the guidance.
        """
        import torch

        with torch.no_grad():
            known = batch.predict(latents, step, {"other": other})["other"]
        moved = partial(self._moved, batch, step, latents, known, start)
        (tokens,) = self.fitted(batch, step, [start.tokens_bsd], moved)
        with torch.no_grad():
            latents = moved([tokens])
        return start._replace(tokens_bsd=tokens), latents

    def _moved(
        self,
        batch: Batch,
        step: Step,
        latents: "Tensor",
        known: "Tensor",
        prompts: "PromptEmbeds",
        values: "Sequence[Tensor]",
    ) -> "Tensor":
        """Returns the latents bchw after a guided step with some tokens of the fitted prompt."""
        embeds = prompts._replace(tokens_bsd=values[0])
        said = batch.predict(latents, step, {"fitted": embeds})["fitted"]
        uncond, text = (said, known) if self.role == "negative" else (known, said)
        return batch.advance(latents, step, uncond.lerp(text, self.guidance_scale))


def fitted_rows(batch: Batch, name: str, tokens_bntd: "Tensor") -> list[Mapping[str, Any]]:
    """Returns the column of fitted embeddings for each row."""
    paths = [request.values[c.INVERTED_PATH.name] for request in batch.requests]
    return [
        {
            name: FittedEmbeds(
                checkpoint=path.checkpoint,
                identity=path.identity,
                frame=path.frame,
                prompt=path.prompt,
                num_inference_steps=path.num_inference_steps,
                tokens_ntd=tokens,
            )
        }
        for path, tokens in zip(paths, tokens_bntd, strict=True)
    ]
