"""Masks by ZONE (arXiv 2312.16794): an instruction editor's attention, and SAM's segments.

InstructPix2Pix edits the source. The attention to both ends of the instruction shows roughly where
it acts, and of all that SAM segments in the edited picture the mask is what overlaps that most.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from overpaint.operators.controls.guidance import ImageAndText
from overpaint.operators.controls.instructed import INSTRUCTED, instructed
from overpaint.operators.controls.instruction_attention import RecordEnds
from overpaint.operators.controls.latent_finder import FoundHeat, LatentFinder, LatentSearch
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.finders.sam import SAMFields
from overpaint.operators.framing import masks
from overpaint.operators.models import sam
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from PIL import Image
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor

_REMOVES = re.compile(
    r"\s*(?:please\s+)?(?:remove|delete|erase|take\s+(?:away|out)|get\s+rid)\b", re.I
)


class ZONEModels(NamedTuple):
    """Models of the finder.

    Attributes:
        editor: model of the instruction editor.
        sam: segments its pictures.
    """

    editor: "LatentModel"
    sam: Any


class ZONEFinder(LatentFinder, SAMFields):
    """Finds where an instruction acts, also where a thing is to be added.

    Segments are those of the edited picture, or of the source where a thing is to be removed: the
    first word of the instruction tells, where the official code has a classifier. Its blend of two
    editors and its smoothing of edges are not here: `edit` feathers what it pastes.
    """

    papers = ("2312.16794", "2211.09800", "2304.02643")
    part = "instruction"
    pipelines = (
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    prompt = c.INSTRUCTION
    word: ClassVar[str] = "zone"

    num_inference_steps: int = Field(default=20, ge=1, le=1000)
    """Steps of the edit whose attention is recorded; 20 in the official code."""
    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of the guidance by the instruction; 7.5 in the official code."""
    image_guidance_scale: float = Field(default=1.5, ge=0, le=100)
    """Scale of the guidance by the source; that of InstructPix2Pix in the official code."""
    attention_threshold: int = Field(default=108, ge=1, le=510)
    """Twice the difference of both ends' attention, of 255, from which on a place is kept; 108 in
    the official code."""
    points_per_side: int = Field(default=32, ge=1, le=128)
    """Points along a side of the grid for SAM's segments; 32 in its official code."""

    def check(self) -> None:
        """Checks that the editor and SAM are there."""
        super().check()
        self.check_sam()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the editor and of SAM."""
        return {**super().revisions(), **self.sam_revisions()}

    def load(self, dtype: DtypeName) -> ZONEModels:
        """Loads SAM, and the editor, shared with every operator that uses the checkpoint."""
        return ZONEModels(super().load(dtype), self.load_sam(dtype))

    def cost(self) -> Cost:
        """Counts a whole edit."""
        forward = self.num_inference_steps * len(INSTRUCTED)
        return Cost(forward=forward, vae_encode=1, vae_decode=1, text=1)

    def find(
        self, inputs: Sequence[LatentSearch], model: Any, *, keep_largest: bool
    ) -> Sequence[FoundHeat]:
        """Returns the segment that overlaps most with where the instruction acts."""
        del keep_largest
        requests = [self._request(search, model.editor) for search in inputs]
        steps = self.num_inference_steps
        batch = Batch(requests, model.editor, num_inference_steps=steps, walked=range)
        heat, edited = self._edited(batch)
        coarse = [
            masks.scaled(each, *request.frame.size) > 1.0
            for each, request in zip(heat[:, 0].float().cpu().numpy(), requests, strict=True)
        ]
        pictures = [
            request.picture if _REMOVES.match(request.prompt) else picture
            for request, picture in zip(requests, edited, strict=True)
        ]
        regions = sam.most_overlapping(
            model.sam,
            [Image.fromarray(picture) for picture in pictures],
            coarse,
            points_per_side=self.points_per_side,
            threshold=self.sam_threshold,
        )
        return [
            FoundHeat(request.frame, 2.0 * region.astype(np.float32))
            for request, region in zip(requests, regions, strict=True)
        ]

    def heat(self, batch: Batch) -> "Tensor":
        """Returns where the instruction acts, before SAM, in units of the threshold."""
        return self._edited(batch)[0]

    def _edited(self, batch: Batch) -> tuple["Tensor", list[Any]]:
        """Returns where the instruction acts, b1hw, and the edited pictures, RGB uint8 HWC."""
        import torch
        from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

        end_id = eos_token_id(batch.model)
        ids = [token_ids(batch.model, request.prompt) for request in batch.requests]
        # A cut instruction fills all places: then its last is the end.
        last = torch.tensor([(*own[:-1], end_id).index(end_id) for own in ids])
        ends = RecordEnds(last_b=last.to(batch.model.device), layers=_layers(batch))
        guidance = ImageAndText(
            guidance_scale=self.guidance_scale, image_guidance_scale=self.image_guidance_scale
        )
        sampling = replace(instructed(batch, guidance), attention=ends.edits)
        pictures = batch.decode(batch.run(INSTRUCTED, sampling))
        edited = [np.clip(np.rint(each), 0, 255).astype(np.uint8) for each in pictures]
        return ends.heat(self.attention_threshold), edited


def _layers(batch: Batch) -> frozenset[str]:
    """Returns the cross-attention at a quarter of the latents' resolution, or the lowest one.

    Layers of encoder and decoder: those of 16 by 16 places in Stable Diffusion.
    """
    cross = [layer for layer in batch.model.attention.layers if layer.is_cross]
    depth = min(2, max(layer.depth for layer in cross))
    outer = [layer for layer in cross if not layer.name.startswith("mid_block")]
    return frozenset(layer.name for layer in outer if layer.depth == depth)
