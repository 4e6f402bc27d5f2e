"""Residuals: a source's own noisy chain, and what each denoising step lacks to follow it.

Edit-friendly DDPM inversion (arXiv 2304.06140) and CycleDiffusion (arXiv 2210.05559) differ only in
the chain. Residuals are kept instead of noise maps: they need no division by the step's spread, so
that the last one, which the code beside the first paper sets to zero, is kept too.

Shapes: b rows, s steps, c latent channels, h and w latent pixels.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.source_guidance import SourceGuided
from overpaint.operators.controls.trajectory import headers
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.inversion import InvertedResiduals
from overpaint.operators.diffusion.step_noise import KeptResiduals, ddim_sigma
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import digest, sha256
from overpaint.pipeline.images import Pixels
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class ResidualInversion(SourceGuided):
    """An inversion that noises the source in a chain, and keeps each step's residual."""

    outputs = (c.INVERTED_RESIDUALS,)

    eta: float = Field(default=1.0, ge=0, le=1)
    """Noise of the steps: 1 is DDPM's, 0 is DDIM's, none."""
    noise: Literal["source", "candidate"] = "source"
    """`source` draws one noise for each picture, so that all its edits share one inversion;
    `candidate` another one for each candidate, so that candidates differ."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Another seed gives another noise."""

    @property
    def reads(self) -> tuple[Column, ...]:
        """The candidate's number where candidates have noise of their own."""
        return (c.CANDIDATE,) if self.noise == "candidate" else ()

    def noise_seed(self, picture: Pixels, row: Row) -> int:
        """Returns a seed made of what the model sees, the seed of the stage and the candidate."""
        candidate = row[c.CANDIDATE.name] if self.noise == "candidate" else None
        seen = [sha256(picture.tobytes()), picture.shape, self.seed, candidate]
        return int(digest(seen), 16) >> 1

    def cost(self) -> Cost:
        """Counts one prediction for each step."""
        forward = self.num_inference_steps * self.num_branches
        return Cost(forward=forward, vae_encode=1, text=1)

    @abstractmethod
    def chain(self, batch: Batch) -> "list[Tensor]":
        """Returns the sources' latents at every level, from noise to clean."""

    def invert(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Follows the chain, and keeps what each step lacks to reach the next level."""
        import torch

        chain = self.chain(batch)
        predictor, path, residuals = self.predictor(batch), chain[:1], []
        for step, target in zip(batch.schedule.steps, chain[1:], strict=True):
            with torch.no_grad():
                prediction = predictor(path[-1], step)
            mean = batch.advance(path[-1], step, prediction, ddim_sigma(step, self.eta))
            residuals.append(target - mean)
            # Latents as the edit will have them, rounding included.
            path.append(mean + residuals[-1])
        return [
            {
                c.INVERTED_RESIDUALS.name: InvertedResiduals(
                    **header,
                    trajectory_schw=torch.stack([level[index] for level in path]),
                    residuals_schw=torch.stack([each[index] for each in residuals]),
                    eta=self.eta,
                )
            }
            for index, header in enumerate(headers(batch))
        ]


def follow_residuals(batch: Batch) -> Sampling:
    """Starts on the sources' chain and adds their residuals; holds what is masked out to it."""
    import torch

    kept = [request.values[c.INVERTED_RESIDUALS.name] for request in batch.requests]
    residuals = torch.stack([each.residuals_schw for each in kept], dim=1)
    return Sampling(
        start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
        hooks=[keep_outside_on_trajectory(batch)],
        noise=KeptResiduals(residuals_sbchw=residuals, eta=kept[0].eta),
    )
