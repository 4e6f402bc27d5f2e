"""A checkpoint of FLUX.2 klein 4B's shape with random weights, to time.

The transformer has all of the 3.88 billion weights, the VAE is FLUX.2's. The text encoder, which
runs once for a prompt, has the width of Qwen3-4B and fewer weights; its tokenizer knows bytes.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from overpaint.operators.models.pretrained import device
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_FULL: dict[str, int] = {"heads": 24, "width": 128, "double": 5, "single": 20, "text": 2560}
_SMALL: dict[str, int] = {"heads": 2, "width": 16, "double": 1, "single": 1, "text": 16}


def save_random_klein(folder: Path, *, small: bool = False) -> str:
    """Saves a bfloat16 pipeline as the hub lays it out.

    Args:
        folder: is made, where it is not there.
        small: a few layers of small width, to try what is timed.

    Returns:
        The folder.
    """
    shape = _SMALL if small else _FULL
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    with torch.no_grad(), device():
        parts = {
            "transformer": _transformer(shape),
            "vae": _vae(small=small),
            "text_encoder": _text_encoder(len(tokenizer), shape["text"]),
        }
    kind: Any = Flux2KleinPipeline
    kind(
        **{name: part.to(torch.bfloat16) for name, part in parts.items()},
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        is_distilled=True,
    ).save_pretrained(folder)
    return str(folder)


def _transformer(shape: dict[str, int]) -> Any:
    axis = shape["width"] // 4
    return Flux2Transformer2DModel(
        in_channels=128,
        num_layers=shape["double"],
        num_single_layers=shape["single"],
        attention_head_dim=shape["width"],
        num_attention_heads=shape["heads"],
        joint_attention_dim=3 * shape["text"],
        axes_dims_rope=(axis,) * 4,
        guidance_embeds=False,
    )


def _vae(*, small: bool) -> Any:
    kind: Any = AutoencoderKLFlux2
    if not small:
        return kind()
    return kind(block_out_channels=(32,) * 4, layers_per_block=1, mid_block_add_attention=False)


def _text_encoder(num_tokens: int, width: int) -> Any:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=num_tokens,
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=28,  # the pipeline reads what layers 9, 18 and 27 give
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=width // 4,
        )
    )


def _tokenizer() -> Any:
    tokens = [*sorted(ByteLevel.alphabet()), *_SPECIAL]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=4096)
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
