"""Prompts to what a UNet's cross-attention reads; each prompt is embedded once, alone.

Embedded alone, a prompt's numbers depend on nothing else in its batch.

Shapes: b rows, s tokens, d channels, p channels of the pooled embedding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from overpaint.operators.diffusion.latent_model import LatentModel
from torch import Tensor

_MOST_KEPT = 256


class Condition(NamedTuple):
    """What one branch is told.

    Attributes:
        tokens_bsd: token embeddings.
        pooled_bp: the pooled embedding that an SDXL takes beside them, else None.
    """

    tokens_bsd: Tensor
    pooled_bp: Tensor | None = None


def embed(model: LatentModel, prompts: Sequence[str]) -> Condition:
    """One condition for a batch, a prompt a row."""
    found = [_embedded(model, prompt) for prompt in prompts]
    pooled = [condition.pooled_bp for condition in found if condition.pooled_bp is not None]
    return Condition(
        torch.cat([condition.tokens_bsd for condition in found]),
        torch.cat(pooled) if pooled else None,
    )


def embed_negative(model: LatentModel, prompt: str, num_rows: int) -> Condition:
    """The condition that guidance leads away from; empty is zero where the checkpoint says so."""
    condition = embed(model, [prompt] * num_rows)
    if prompt or not model.empty_is_zero:
        return condition
    pooled = condition.pooled_bp
    return Condition(
        torch.zeros_like(condition.tokens_bsd), None if pooled is None else torch.zeros_like(pooled)
    )


def token_ids(model: LatentModel, prompt: str) -> list[int]:
    """Token numbers of a prompt, as the first text encoder reads them, padding included."""
    tokenizer, _ = model.text[0]
    return [int(number) for number in _tokens(tokenizer, prompt).input_ids[0]]


def end_id(model: LatentModel) -> int:
    """The token that ends a prompt; what follows it is padding."""
    tokenizer, _ = model.text[0]
    return int(tokenizer.eos_token_id)


def _embedded(model: LatentModel, prompt: str) -> Condition:
    condition = model.prompts.pop(prompt, None)
    if condition is None:
        condition = _embed_one(model, prompt)
        if len(model.prompts) >= _MOST_KEPT:
            del model.prompts[next(iter(model.prompts))]
    model.prompts[prompt] = condition
    return condition


@torch.no_grad()
def _embed_one(model: LatentModel, prompt: str) -> Condition:
    if len(model.text) == 1:
        tokenizer, encoder = model.text[0]
        return Condition(_encode(tokenizer, encoder, prompt)[0])
    # SDXL ("arXiv 2307.01952"): the last but one layers of both encoders, side by side.
    outputs = [
        _encode(tokenizer, encoder, prompt, output_hidden_states=True)
        for tokenizer, encoder in model.text
    ]
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return Condition(tokens, outputs[-1][0])


def _encode(tokenizer: Any, encoder: Any, prompt: str, **options: Any) -> Any:
    tokens = _tokens(tokenizer, prompt).to(encoder.device)
    takes_mask = getattr(encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask if takes_mask else None
    return encoder(tokens.input_ids, attention_mask=mask, **options)


def _tokens(tokenizer: Any, prompt: str) -> Any:
    return tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
