"""Places where the model looks for words: their cross-attention, recorded.

Shapes: n branches, b rows, h heads, q queries, k tokens; h and w latent pixels.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.controls.linear_sampling import resized
from overpaint.operators.diffusion.attention import AttentionEdits, Site
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import walked_steps
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordWords:
    """Edit that changes nothing, and keeps the attention to words of some branches.

    Attributes:
        weights: weight of each token, bk, by branch.
        layers: names of the layers that are kept; None keeps all of cross-attention.
        maps: maps b1hw, the mean of heads and the sum of weighted tokens, by branch and layer.
    """

    weights: "Mapping[str, Tensor]"
    layers: Collection[str] | None = None
    maps: "dict[tuple[str, str], Tensor]" = field(default_factory=dict[tuple[str, str], "Tensor"])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention that is kept."""
        is_kept = self.layers is None or site.layer.name in self.layers
        return site.layer.is_cross and is_kept

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Keeps the words' part of the maps nbhqk."""
        for index, branch in enumerate(site.branches):
            if branch in self.weights:
                weights = self.weights[branch].to(maps)[:, None, :, None]
                words = (maps[index] @ weights).mean(dim=1).float()
                kept = words.transpose(1, 2).unflatten(2, site.size)
                self.maps[branch, site.layer.name] = kept
        return maps

    def mean(self, branch: str, size: tuple[int, int] | None = None) -> "Tensor":
        """Returns the mean of all layers, b1hw, each resized to a grid where one is given."""
        import torch

        maps = [words for (name, _), words in self.maps.items() if name == branch]
        return torch.stack([m if size is None else resized(m, size) for m in maps]).mean(dim=0)


def aligned_weights(
    model: "LatentModel", source_prompt: str, prompt: str, phrase: str
) -> "tuple[Tensor, Tensor]":
    """Returns the weights k of a phrase in the source prompt and in the target prompt.

    Target tokens are those of the phrase, or else those that take the place of its tokens in the
    source prompt. A phrase that only the target prompt has weighs nothing in the source prompt.

    Raises:
        RowError: `phrase_not_in_prompt`: the target prompt has neither.
    """
    import torch
    from overpaint.operators.controls.prompt_to_prompt import align
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    source, target = (
        torch.tensor(tokens_of(model, text, phrase)) for text in (source_prompt, prompt)
    )
    if not target.any():
        ids = (token_ids(model, source_prompt), token_ids(model, prompt))
        target = (source @ align(*ids, eos_token_id(model)) > 0).float()
    if not target.any():
        raise RowError("phrase_not_in_prompt", f"{phrase!r} is not in the prompt {prompt!r}")
    return source.to(model.device), target.to(model.device)


def phrase_weights(
    model: "LatentModel", prompts: Sequence[str], phrases: Sequence[str]
) -> "Tensor":
    """Returns weights bk, 1 for the tokens of each prompt that are those of a phrase, else 0.

    Raises:
        RowError: `phrase_not_in_prompt`: the words are not there, in their order.
    """
    import torch

    rows = [
        tokens_of(model, prompt, phrase) for prompt, phrase in zip(prompts, phrases, strict=True)
    ]
    for row, prompt, phrase in zip(rows, prompts, phrases, strict=True):
        if not any(row):
            raise RowError("phrase_not_in_prompt", f"{phrase!r} is not in the prompt {prompt!r}")
    return torch.tensor(rows, dtype=torch.float32, device=model.device)


def tokens_of(model: "LatentModel", prompt: str, phrase: str) -> list[float]:
    """Returns 1 for the tokens of a prompt that are those of a phrase, 0 for all others."""
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    tokens, words = token_ids(model, prompt), token_ids(model, phrase)
    words = words[1 : words.index(eos_token_id(model))]
    weights = [0.0] * len(tokens)
    for start in range(len(tokens) - len(words) + 1):
        if words and tokens[start : start + len(words)] == words:
            weights[start : start + len(words)] = [1.0] * len(words)
    return weights


def phrases_of(batch: Batch) -> list[str]:
    """Returns the phrase of each row's object.

    Raises:
        RowError: `mask_phrase_missing`: a row has none.
    """
    phrases = [request.values.get(c.MASK_PHRASE.name) or "" for request in batch.requests]
    if not all(phrases):
        raise RowError("mask_phrase_missing", "no mask_phrase says what the object is")
    return phrases


WORDS_STRENGTH = 0.2
"""Share of the way to noise at which an object is looked for by words."""


def object_by_words(batch: Batch) -> "Tensor":
    """Returns the object of each row in its inverted source, b1hw, 0 or 1: one prediction.

    It is where the words of `mask_phrase` are attended to more than by Otsu's threshold of the row.
    """
    from overpaint.operators.controls.noise_difference import otsu_of_means

    prompts, steps = batch.source_prompts(), batch.schedule.steps
    words = RecordWords(weights={"source": phrase_weights(batch.model, prompts, phrases_of(batch))})
    step = steps[walked_steps(WORDS_STRENGTH, len(steps)).start]
    latents = batch.trajectory_sbchw[step.index]
    batch.predict(latents, step, {"source": batch.prompts(prompts)}, words.edits)
    heat = words.mean("source", (latents.shape[2], latents.shape[3]))
    return (otsu_of_means(heat) > 1.0).float()
