"""The exceptional prompt of TF-ICON (arXiv 2307.12493): a prompt that says nothing of anything.

All tokens are the same, and none knows its place, so that guidance by words has no direction:
inversion under it does not drift.

Shapes: b rows, t tokens.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from overpaint.operators.diffusion.prompts import PromptEmbeds

TOKEN = 7788
"""Token of the official code; a smaller vocabulary takes the remainder."""


def embed_exceptional(model: "LatentModel", num_rows: int) -> "PromptEmbeds":
    """Embeds the exceptional prompt for a number of rows.

    No row's prompt is embedded, and nothing is counted, as for the empty prompt.

    Raises:
        ValueError: a text encoder has no embedding of positions.
    """
    import torch
    from overpaint.operators.diffusion.prompts import PromptEmbeds

    outputs: list[Any] = []
    for tokenizer, encoder in model.text:
        token = TOKEN % int(encoder.config.vocab_size)
        ids = torch.full((1, tokenizer.model_max_length), token, device=encoder.device)
        with torch.no_grad(), _without_positions(encoder):
            outputs.append(encoder(ids, output_hidden_states=len(model.text) > 1))
    if len(outputs) == 1:
        return PromptEmbeds(outputs[0][0].expand(num_rows, -1, -1))
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return PromptEmbeds(tokens.expand(num_rows, -1, -1), outputs[-1][0].expand(num_rows, -1))


@contextmanager
def _without_positions(encoder: Any) -> Generator[None]:
    """Makes a text encoder's embedding of positions 0 for a while."""
    positions = [
        part for name, part in encoder.named_modules() if name.endswith("position_embedding")
    ]
    if not positions:
        raise ValueError("the text encoder has no embedding of positions: no exceptional prompt")
    hook: Any = positions[0].register_forward_hook(lambda _, __, output: output * 0.0)
    try:
        yield
    finally:
        hook.remove()
