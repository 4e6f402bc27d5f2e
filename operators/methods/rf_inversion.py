"""RF-Inversion (arXiv 2410.10792): a controller draws a flow to noise, and back to the source.

The source is inverted under no words, drawn to unit noise by `gamma`; the edit starts there and is
drawn to the source by `eta` in some of its steps. The authors' code walks the inversion in even
times; here both ways walk the levels of the checkpoint's schedule, and each step goes by the level
that it starts from.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.flow_paths import steered_path
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.flow_batch import FlowBatch
from overpaint.operators.diffusion.flow_method import FlowMethod
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class RFInversion(FlowMethod, Framed):
    """A flow's own inversion, drawn to noise, then an edit that is drawn to the source."""

    papers = ("2410.10792",)
    family = "F03"
    edit_types = ("style", "replace", "add", "expression", "color")

    gamma: float = Field(default=0.5, ge=0, le=1)
    """Weight of the way to unit noise in the inversion: 0 is the flow's own."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """Weight of the way to the source in the edit: 1 is the most faithful."""
    start_timestep: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps before the edit is drawn to the source."""
    stop_timestep: float = Field(default=0.25, ge=0, le=1)
    """Share of the steps after which it is no longer."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the inversion beside the steps of the edit."""
        return super().cost(num_inference_steps) + Cost(forward=num_inference_steps)

    def edited(self, batch: Batch) -> "Tensor":
        """Returns the clean latents bchw of the edits."""
        assert isinstance(batch, FlowBatch)
        source, mask, sigmas = batch.source_latents, batch.mask_b1hw, batch.sigmas
        inverted = self.inverted(batch)
        first, last = (int(t * len(batch.steps)) for t in (self.start_timestep, self.stop_timestep))

        def keep(walked: "Tensor", place: int) -> "Tensor":
            return source.lerp(inverted, sigmas[place]).lerp(walked, mask)

        return steered_path(
            inverted,
            sigmas,
            batch.velocities(self.branch_prompts(batch), self.true_cfg_scale),
            towards=lambda latents, sigma: (latents - source) / sigma,
            share=lambda index: self.eta if first <= index < last else 0.0,
            keep=keep,
        )

    def inverted(self, batch: FlowBatch) -> "Tensor":
        """Returns the noise bchw that the sources are inverted to."""
        nothing = {"text": batch.prompts([""] * len(batch.requests), guidance_scale=0.0)}
        noise = batch.noise
        return steered_path(
            batch.source_latents,
            batch.sigmas[::-1],
            batch.velocities(nothing, 1.0),
            towards=lambda latents, sigma: (noise - latents) / (1.0 - sigma),
            share=lambda _: self.gamma,
        )
