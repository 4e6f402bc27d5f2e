"""FireFlow (arXiv 2412.07517): a flow is inverted in few steps by a solver of second order.

The source is inverted under its own prompt and the edit walks back under the target's, by the same
solver. The authors' code also carries values of attention over from the inversion; this does not,
and keeps what is outside the mask by the latents of the inversion.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.flow_paths import fireflow_path
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.flow_batch import FlowBatch
from overpaint.operators.diffusion.flow_method import FlowMethod
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row, first_text
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class FireFlow(FlowMethod, Framed):
    """An inversion of a flow that gives the source back in 8 steps, then an edit by its noise."""

    papers = ("2412.07517",)
    family = "F03"
    edit_types = ("replace", "style", "add", "color", "texture")
    needs = (c.SOURCE_PROMPT,)
    reads_seed = False

    num_inference_steps: int = Field(default=8, ge=1, le=1000)
    """Steps of the inversion, and of the edit; 8 in the official script."""
    guidance_scale: float = Field(default=2.0, ge=0, le=100)
    """Scale of the guidance that is distilled into FLUX.1 dev, of the edit; the inversion has 1."""

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the target prompt and the source's."""
        source = first_text(row, c.SOURCE_PROMPT)
        return {**super().prompts(row), **({c.SOURCE_PROMPT.name: source} if source else {})}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts both ways, each with one evaluation more than steps, and both prompts."""
        evaluations = (num_inference_steps + 1) * (1 + len(self.branches()))
        return Cost(forward=evaluations, vae_encode=1, vae_decode=1, text=2)

    def edited(self, batch: Batch) -> "Tensor":
        """Returns the clean latents bchw of the edits."""
        assert isinstance(batch, FlowBatch)
        inverted, mask = self.inverted(batch), batch.mask_b1hw
        velocity = batch.velocities(self.branch_prompts(batch), self.true_cfg_scale)

        def keep(walked: "Tensor", place: int) -> "Tensor":
            return inverted[place].lerp(walked, mask)

        return fireflow_path(inverted[0], batch.sigmas, velocity, keep)[-1]

    def inverted(self, batch: FlowBatch) -> "list[Tensor]":
        """Returns the latents bchw of the inversion at every level, from noise to source."""
        sources = [request.values[c.SOURCE_PROMPT.name] for request in batch.requests]
        own = batch.velocities({"text": batch.prompts(sources, guidance_scale=1.0)}, 1.0)
        return fireflow_path(batch.source_latents, batch.sigmas[::-1], own)[::-1]
