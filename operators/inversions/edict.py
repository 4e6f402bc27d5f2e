"""EDICT (arXiv 2211.12446): exact inversion by a coupled pair of latents."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.controls.source_guidance import SourceGuided
from overpaint.operators.controls.trajectory import headers
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inversion import InvertedPair
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field


class EDICTInversion(SourceGuided):
    """A coupled pair whose steps are undone exactly: two network evaluations for each step."""

    papers = ("2211.12446",)
    family = "F02"
    outputs = (c.INVERTED_PAIR,)

    num_inference_steps: int = Field(default=50, ge=1, le=1000)
    """Steps of the trajectory; `edit` walks the same ones back. The paper's 50."""
    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance by the source prompt; 1 is unguided. The paper's 3."""
    mixing_coeff: float = Field(default=0.93, gt=0, le=1)
    """Share of a member that the mixing after a step leaves to it (p in the paper): lower values
    hold the pair together, higher ones are more exact over many steps. The paper's 0.93."""

    def cost(self) -> Cost:
        """Counts the predictions at both members of each step."""
        forward = 2 * self.num_inference_steps * self.num_branches
        return Cost(forward=forward, vae_encode=1, text=1)

    def invert(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Undoes the steps from the source as both members."""
        import torch
        from overpaint.operators.diffusion.coupled import invert_coupled

        pairs = invert_coupled(
            batch.contiguous_source_latents,
            batch.schedule,
            self.predictor(batch),
            self.mixing_coeff,
        )
        return [
            {
                c.INVERTED_PAIR.name: InvertedPair(
                    **header,
                    trajectory_schw=torch.stack([pair[index] for pair in pairs]),
                    mixing_coeff=self.mixing_coeff,
                )
            }
            for index, header in enumerate(headers(batch))
        ]
