"""Places where concepts guide: where their words look, and where their guidance is strong.

The two masks of LEDITS++ (arXiv 2311.16711). Every threshold is a row's own.

Shapes: k concepts, b rows, t tokens, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.attention_maps import coarse_layers
from overpaint.operators.controls.concepts import Concepts, row_quantile
from overpaint.operators.controls.words import RecordWords
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline.conditions import EDIT_CONCEPTS

if TYPE_CHECKING:
    from torch import Tensor

LAST_NOISY_TIMESTEP = 800
"""Timestep of the training above which guidance is too rough to tell where it is strong."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedConcepts:
    """Guidance of LEDITS++: from `negative` towards each concept, inside the concept's masks.

    Attributes:
        concepts: concepts of the batch.
        mask_b1hw: share of each place that may change.
        words: keeps where the concepts' words look; None uses no attention.
        use_noise_mask: whether guidance is kept to where it is strong.
    """

    concepts: Concepts
    mask_b1hw: "Tensor"
    words: RecordWords | None
    use_noise_mask: bool

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        concepts = self.concepts
        guidance = concepts.scale_kb111 * concepts.directions(state) * self.mask_b1hw
        runs = concepts.is_warm(state) * concepts.is_not_cool(state)
        masked = guidance * self.masks(guidance, state) * runs * concepts.weight_kb111
        return state.predictions["negative"] + masked.sum(dim=0)

    def masks(self, guidance_kbchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the places in which each concept guides, kb1hw.

        In noisy steps only attention tells them, where it is used.
        """
        masks = guidance_kbchw.new_ones(())
        if self.words is not None:
            masks = masks * self._looked(self.words, guidance_kbchw)
        is_noisy = state.step.timestep > LAST_NOISY_TIMESTEP
        if self.use_noise_mask and not (is_noisy and self.words is not None):
            strength = guidance_kbchw.abs().sum(dim=2, keepdim=True)
            masks = masks * self._is_high(strength)
        return masks

    def _looked(self, words: RecordWords, guidance_kbchw: "Tensor") -> "Tensor":
        import torch
        from torch.nn import functional

        maps = torch.stack([words.mean(name) for name in self.concepts.names])
        is_high = self._is_high(smoothed(maps.flatten(0, 1)).view_as(maps)).to(guidance_kbchw)
        size = guidance_kbchw.shape[-2:]
        return functional.interpolate(is_high.flatten(0, 1), size).unflatten(0, maps.shape[:2])

    def _is_high(self, values_kb1hw: "Tensor") -> "Tensor":
        share = self.concepts.threshold_kb111[..., 0]
        return values_kb1hw >= row_quantile(values_kb1hw.flatten(3), share)[..., None]


def record_words(batch: Batch, concepts: Concepts) -> RecordWords:
    """Returns the recorder of where the concepts' words look, without start, end and padding."""
    size = batch.mask_b1hw.shape[-2], batch.mask_b1hw.shape[-1]
    prompts = [
        [each.prompt for each in request.values[EDIT_CONCEPTS.name]] for request in batch.requests
    ]
    columns = zip(concepts.names, zip(*prompts, strict=True), strict=True)
    return RecordWords(
        weights={name: _word_tokens(batch, texts) for name, texts in columns},
        layers=coarse_layers(batch.model.attention.layers, size),
    )


def smoothed(maps_b1hw: "Tensor") -> "Tensor":
    """Returns maps smoothed over 3 by 3 places by exp(-distance^2), as in the official code."""
    import torch
    from torch.nn import functional

    line = torch.tensor([-1.0, 0.0, 1.0], device=maps_b1hw.device).square().neg().exp()
    kernel = line[:, None] * line
    padded = functional.pad(maps_b1hw, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, (kernel / kernel.sum()).to(padded)[None, None])


def _word_tokens(batch: Batch, texts: Sequence[str]) -> "Tensor":
    """Returns 1 for each token of some texts that is part of a word, bt."""
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    end_id = eos_token_id(batch.model)
    rows = [token_ids(batch.model, text) for text in texts]
    words = torch.zeros(len(rows), len(rows[0]))
    for row, ids in enumerate(rows):
        words[row, 1 : ids.index(end_id) if end_id in ids else len(ids)] = 1.0
    return words
