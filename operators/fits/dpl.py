"""Dynamic Prompt Learning (arXiv 2309.15664): nouns that look at their own things alone.

In each step the vectors of the source prompt's nouns are moved until their attention leaks neither
to the background nor to each other; then the empty prompt is fitted, as null-text inversion does.

Shapes: b rows, n steps, w words, t tokens, d channels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from overpaint.operators.controls.attention_maps import RecordCrossAttention
from overpaint.operators.controls.dynamic_prompt import DynamicLosses, dynamic_losses, nouns
from overpaint.operators.controls.new_words import placing_layers
from overpaint.operators.controls.prompt_fit import PromptFit, fitted_rows
from overpaint.operators.controls.row_fit import fit_rows
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inversion import FittedEmbeds, FittedWords
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor

_THRESHOLDS = ((0.3, 25.0), (0.7, 50.0), (0.9, 25.0))
"""Loss of each kind that is low enough in the first step, and the steps in which it falls by e."""


class DPLFit(PromptFit):
    """Fits the nouns of the source prompt, and then the empty prompt.

    The official code writes the nouns into the text encoder, where they stay for every later
    picture, and clusters self-attention for the background. Here they are added to one row's own
    tokens, and the background is where no noun looks.
    """

    papers = ("2309.15664", "2211.09794")
    family = "F03"
    role = "negative"
    outputs = (c.FITTED_WORDS,)

    early_stop_epsilon: float = Field(default=1e-5, ge=0)
    """Loss of the first sampling step below which a row's empty prompt is done; it grows by twice
    as much in each step. 0 never stops early, nor the nouns."""
    num_inner_steps: int = Field(default=51, ge=1, le=100)
    """Optimisation steps of the empty prompt in each sampling step; 51 in the official code."""
    num_word_steps: int = Field(default=21, ge=0, le=100)
    """Optimisation steps of the nouns in each sampling step; 21 in the official code. 0 is
    null-text inversion."""
    word_learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate of the nouns; 0.001 in the official code."""
    attention_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of the least attended noun; 1 in the official code."""
    background_weight: float = Field(default=0.05, ge=0, le=100)
    """Weight of attention to the background; 0.05 in the official code."""
    disjoint_weight: float = Field(default=0.05, ge=0, le=100)
    """Weight of attention that nouns share; 0.05 in the official code."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the fit of the empty prompt, and that of the nouns, through the text encoder."""
        words = num_inference_steps * self.num_word_steps
        more = Cost(
            forward=words,
            backward=words,
            text=words + num_inference_steps,
            text_backward=words,
        )
        return super().cost(num_inference_steps) + more

    def fit(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the trajectories from noise to clean, and fits nouns and empty prompt in each."""
        import torch

        empty, shares = batch.negative_prompts(""), nouns(batch)
        latents, negatives, sources = batch.trajectory_sbchw[0], [], []
        words = [torch.zeros(shares.shape[0], shares.shape[2], size) for size in _sizes(batch)]
        words = [word.to(latents) for word in words]
        for step in batch.schedule.steps:
            words = self._fit_words(batch, step, latents, words, shares)
            with torch.no_grad():
                source = _encoded(batch, words, shares)
            empty, latents = self.fitted_step(batch, step, latents, empty, source)
            negatives.append(empty.tokens_bsd)
            sources.append(source.tokens_bsd)
        name = self.outputs[0].name
        rows = fitted_rows(batch, name, torch.stack(negatives, dim=1))
        return [
            {name: _with_source(row[name], tokens)}
            for row, tokens in zip(rows, torch.stack(sources, dim=1), strict=True)
        ]

    def _fit_words(
        self, batch: Batch, step: Step, latents: "Tensor", words: "list[Tensor]", shares: "Tensor"
    ) -> "list[Tensor]":
        """Returns what is added to the nouns' vectors, btd for each text encoder."""
        seen: list[DynamicLosses] = []
        weights = (self.attention_weight, self.background_weight, self.disjoint_weight)

        def loss(values: "Sequence[Tensor]") -> "Tensor":
            losses = _losses(batch, step, latents, values, shares)
            batch.model.spend(Cost(text_backward=len(latents)))
            seen[:] = [losses]
            return sum(
                (w * each for w, each in zip(weights, losses, strict=True)), latents.new_zeros(())
            )

        def is_done() -> "Tensor":
            low = [
                each.detach() < limit * math.exp(-step.index / fall)
                for each, (limit, fall) in zip(seen[0], _THRESHOLDS, strict=True)
            ]
            return (low[0] & low[1] & low[2]) & (self.early_stop_epsilon > 0.0)

        return fit_rows(
            batch,
            words,
            loss,
            learning_rate=self.word_learning_rate,
            num_inner_steps=self.num_word_steps,
            is_done=is_done,
        )


def _losses(
    batch: Batch, step: Step, latents: "Tensor", words: "Sequence[Tensor]", shares: "Tensor"
) -> DynamicLosses:
    """Returns the losses of the maps under the source prompts with changed nouns."""
    recorder = RecordCrossAttention(branch="text")
    batch.predict(latents, step, {"text": _encoded(batch, words, shares)}, recorder.edits)
    height, width = latents.shape[2:]
    depth, names = placing_layers(batch.model.attention.layers, min(height, width))
    size = (-(-height // 2**depth), -(-width // 2**depth))
    return dynamic_losses([recorder.maps[name] for name in names], shares, size)


def _encoded(batch: Batch, words: "Sequence[Tensor]", shares: "Tensor") -> "PromptEmbeds":
    """Returns the source prompts with something added to their nouns' vectors."""
    from overpaint.operators.diffusion.prompts import encode

    is_noun = (shares.sum(dim=1) > 0)[..., None]
    batch.model.spend(Cost(text=len(batch.requests)))
    return encode(batch.model, batch.source_prompts(), [word * is_noun for word in words])


def _sizes(batch: Batch) -> list[int]:
    """Returns the channels of the tokens' vectors of each text encoder."""
    return [encoder.get_input_embeddings().embedding_dim for _, encoder in batch.model.text]


def _with_source(fit: FittedEmbeds, source_ntd: "Tensor") -> FittedWords:
    own = {part.name: getattr(fit, part.name) for part in fields(fit)}
    return FittedWords(**own, source_ntd=source_ntd)
