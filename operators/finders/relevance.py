"""Masks by Watch Your Steps (arXiv 2308.08947): the places for which an instruction matters."""

from typing import TYPE_CHECKING

from overpaint.operators.controls.latent_finder import LatentFinder
from overpaint.operators.controls.relevance import Relevance, relevant
from overpaint.operators.diffusion.batch import Batch
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor


class RelevanceFinder(LatentFinder, Relevance):
    """Finds what an instruction editor would change, also where a thing is to be added."""

    papers = ("2308.08947",)
    part = "instruction"
    pipelines = (
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    prompt = c.INSTRUCTION
    word = "relevance"

    def cost(self) -> Cost:
        """Counts two predictions for each noise."""
        return Cost(forward=self.num_relevance_forwards, vae_encode=1, text=1)

    def heat(self, batch: Batch) -> "Tensor":
        """Returns the relevance in units of each row's threshold."""
        return relevant(batch, self)
