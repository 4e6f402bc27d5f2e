"""Prompts to the embeddings that a UNet's cross-attention reads; each prompt is embedded alone.

Embedded alone, a prompt's numbers depend on nothing else in its batch.

Shapes: b rows, s tokens, d channels, p channels of the pooled embedding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
from overpaint.operators.models.tokenizing import with_vectors
from overpaint.pipeline.cost import Cost
from torch import Tensor

_MAX_CACHED_PROMPTS = 256


def embed(model: LatentModel, prompts: Sequence[str]) -> PromptEmbeds:
    """Embeds one prompt for each row of a batch."""
    embeds = [_cached(model, prompt) for prompt in prompts]
    pooled = [row.pooled_bp for row in embeds if row.pooled_bp is not None]
    return PromptEmbeds(
        torch.cat([row.tokens_bsd for row in embeds]), torch.cat(pooled) if pooled else None
    )


def embed_negative(model: LatentModel, prompt: str, num_rows: int) -> PromptEmbeds:
    """Embeds the negative prompt of classifier-free guidance for every row.

    An empty prompt gives zeros where the checkpoint says `force_zeros_for_empty_prompt`.
    """
    embeds = embed(model, [prompt] * num_rows)
    if prompt or not model.force_zeros_for_empty_prompt:
        return embeds
    pooled = embeds.pooled_bp
    return PromptEmbeds(
        torch.zeros_like(embeds.tokens_bsd), None if pooled is None else torch.zeros_like(pooled)
    )


def token_ids(model: LatentModel, prompt: str) -> list[int]:
    """Returns the token ids of a prompt, as the first text encoder reads them, with padding."""
    tokenizer, _ = model.text[0]
    return [int(number) for number in _tokenize(tokenizer, prompt).input_ids[0]]


def eos_token_id(model: LatentModel) -> int:
    """Returns the id of the token that ends a prompt; padding follows it."""
    tokenizer, _ = model.text[0]
    return int(tokenizer.eos_token_id)


def _cached(model: LatentModel, prompt: str) -> PromptEmbeds:
    embeds = model.prompts.pop(prompt, None)
    if embeds is None:
        embeds = _embed_one(model, prompt)
        model.spend(Cost(text=1))
        if len(model.prompts) >= _MAX_CACHED_PROMPTS:
            del model.prompts[next(iter(model.prompts))]
    model.prompts[prompt] = embeds
    return embeds


@torch.no_grad()
def _embed_one(model: LatentModel, prompt: str) -> PromptEmbeds:
    return encode(model, [prompt])


def encode(
    model: LatentModel, prompts: Sequence[str], additions: Sequence[Tensor] | None = None
) -> PromptEmbeds:
    """Embeds prompts in one call, with gradients; neither kept nor counted.

    Args:
        model: text encoders.
        prompts: one for each row.
        additions: for each text encoder, what is added to the vectors of its tokens, bsd.
    """
    if len(model.text) == 1:
        tokenizer, encoder = model.text[0]
        own = None if additions is None else additions[0]
        return PromptEmbeds(_encode(tokenizer, encoder, prompts, own)[0])
    # SDXL (arXiv 2307.01952): the last but one layers of both encoders, side by side.
    outputs = [
        _encode(
            tokenizer,
            encoder,
            prompts,
            None if additions is None else additions[index],
            output_hidden_states=True,
        )
        for index, (tokenizer, encoder) in enumerate(model.text)
    ]
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return PromptEmbeds(tokens, outputs[-1][0])


def _encode(
    tokenizer: Any,
    encoder: Any,
    prompts: Sequence[str],
    addition_bsd: Tensor | None,
    **options: Any,
) -> Any:
    tokens = _tokenize(tokenizer, list(prompts)).to(encoder.device)
    takes_mask = getattr(encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask if takes_mask else None
    if addition_bsd is None:
        return encoder(tokens.input_ids, attention_mask=mask, **options)

    def add(_module: Any, _inputs: Any, vectors: Tensor) -> Tensor:
        return vectors + addition_bsd.to(vectors.dtype)

    # The table of vectors is shared by every row: it is added to, and never written.
    hook = encoder.get_input_embeddings().register_forward_hook(add)
    try:
        return encoder(tokens.input_ids, attention_mask=mask, **options)
    finally:
        hook.remove()


def _tokenize(tokenizer: Any, prompt: str | list[str]) -> Any:
    texts = [prompt] if isinstance(prompt, str) else prompt
    return tokenizer(
        [with_vectors(tokenizer, text) for text in texts],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
