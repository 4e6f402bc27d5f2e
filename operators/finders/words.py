"""Masks by words: where cross-attention looks for a phrase (Prompt-to-Prompt, arXiv 2208.01626)."""

import re
from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.latent_finder import LatentFinder
from overpaint.operators.controls.noise_difference import otsu_of_means
from overpaint.operators.controls.words import RecordWords, phrase_weights
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import walked_steps
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor

_WORD = re.compile(r"\w+|[^\w\s]")


class WordsFinder(LatentFinder):
    """Finds where the source's prompt looks for the words of the mask phrase.

    Where the prompt has no such words, or there is none, the phrase itself is the prompt.
    """

    papers = ("2208.01626",)
    prompt = c.MASK_PHRASE
    word = "words"

    words_noise_level: float = Field(default=0.2, gt=0, le=1)
    """Share of the way to pure noise at which attention is recorded; LocalBlend records it during
    the whole edit."""
    num_words_maps: int = Field(default=1, ge=1, le=100)
    """Noises over which attention is averaged."""
    mask_thresholding: Literal["otsu", "ratio"] = "otsu"
    """Rule for the threshold: `otsu` separates two classes of a row after a mean over 3 by 3 latent
    pixels; `ratio` takes a share of a row's maximum, as LocalBlend does."""
    mask_threshold: float = Field(default=0.3, gt=0, lt=1)
    """Share of the maximum that a place reaches, for `ratio`; 0.3 in the official code."""

    @property
    def optional(self) -> tuple[Column, ...]:
        """Descriptions of the source."""
        return (c.SOURCE_PROMPT, c.CAPTION)

    def cost(self) -> Cost:
        """Counts one prediction for each noise."""
        return Cost(forward=self.num_words_maps, vae_encode=1, text=1)

    def heat(self, batch: Batch) -> "Tensor":
        """Returns the attention to the words in units of each row's threshold."""
        attention = self._attention(batch)
        if self.mask_thresholding == "otsu":
            return otsu_of_means(attention)
        most = attention.amax(dim=(1, 2, 3), keepdim=True)
        return attention / (self.mask_threshold * most).clamp_min(1e-12)

    def _attention(self, batch: Batch) -> "Tensor":
        """Returns the mean attention to the words of all layers and noises, b1hw."""
        import torch
        from overpaint.operators.diffusion import latents

        phrases = [request.prompt for request in batch.requests]
        prompts = [
            _prompt(request.values[c.SOURCE_PROMPT.name], request.prompt)
            for request in batch.requests
        ]
        weights, texts = phrase_weights(batch.model, prompts, phrases), batch.prompts(prompts)
        steps = batch.schedule.steps
        step = steps[walked_steps(self.words_noise_level, len(steps)).start]
        generators = latents.make_generators([request.seed for request in batch.requests])
        x0, maps = batch.source_latents, list["Tensor"]()
        for _ in range(self.num_words_maps):
            words = RecordWords(weights={"source": weights})
            noised = step.noised(x0, latents.draw_noise(generators, x0))
            batch.predict(noised, step, {"source": texts}, words.edits)
            maps.append(words.mean("source", (x0.shape[2], x0.shape[3])))
        return torch.stack(maps).mean(dim=0)


def _prompt(source_prompt: str, phrase: str) -> str:
    """Returns the text in which a phrase is looked for."""
    words, text = (_WORD.findall(each.lower()) for each in (phrase, source_prompt))
    starts = range(len(text) - len(words) + 1)
    has_words = any(text[start : start + len(words)] == words for start in starts)
    return source_prompt if has_words else phrase
