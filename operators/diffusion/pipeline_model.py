"""A diffusers pipeline of a transformer editor, loaded once in each actor."""

from dataclasses import dataclass, field
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from overpaint.operators.models.pretrained import device, torch_dtype
from overpaint.operators.models.tokenizing import TextLength, one_call_at_a_time, text_length
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost

_MAX_CACHED_PROMPTS = 256


@dataclass(eq=False, kw_only=True, slots=True)
class PipelineModel:
    """A loaded pipeline.

    Attributes:
        identity: revision or digest of the exact weights.
        pipeline: diffusers' pipeline.
        device: where it computes.
        resolution_px: side of the square pictures that it was trained on.
        spent: network evaluations so far, over all rows.
        oom_fallbacks: ways in which memory was freed that can change the last digit.
        prompts: embeddings of the latest prompts.
        is_offloaded: whether each part is on the device only while it computes.
    """

    identity: str
    pipeline: Any
    device: torch.device
    resolution_px: int
    spent: Cost = field(default_factory=Cost)
    oom_fallbacks: tuple[str, ...] = ()
    prompts: dict[str, Any] = field(default_factory=dict[str, Any])
    is_offloaded: bool = False

    def spend(self, cost: Cost) -> None:
        """Counts network evaluations."""
        self.spent = self.spent + cost

    @property
    def multiple_px(self) -> int:
        """Number that the sides of a picture are multiples of: latent pixels are packed 2 x 2."""
        return 2 * int(self.pipeline.vae_scale_factor)

    @torch.no_grad()
    def embed(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeds a prompt alone; returns token embeddings and the pooled embedding."""
        embeds = self.prompts.pop(prompt, None)
        if embeds is None:
            embeds = self.pipeline.encode_prompt(prompt=[prompt], prompt_2=None)[:2]
            self.spend(Cost(text=1))
            if len(self.prompts) >= _MAX_CACHED_PROMPTS:
                del self.prompts[next(iter(self.prompts))]
        self.prompts[prompt] = embeds
        return embeds

    def text_length(self, text: str) -> TextLength | None:
        """Returns the length of a text for the text encoder that carries it; None without one.

        A pipeline whose prompts have a `max_sequence_length` reads them by its last text encoder;
        those before it see the same text only to sum it up.
        """
        tokenizers = _tokenizers(self.pipeline)
        if not tokenizers:
            return None
        if (limit := _max_sequence_length(self.pipeline)) is not None:
            return text_length(tokenizers[-1], text, limit)
        lengths = [text_length(tokenizer, text) for tokenizer in tokenizers]
        return max(lengths, key=lambda length: length.num_cut)

    def free_memory(self, *, exact: bool) -> str | None:
        """Offloads the pipeline's parts; where bytes may change, slices its VAE."""
        if exact and self.device.type != "cpu" and not self.is_offloaded:
            self.pipeline.enable_model_cpu_offload(device=self.device)
            self.is_offloaded = True
            return "offload"
        if not exact and not self.oom_fallbacks:
            self.pipeline.vae.enable_slicing()
            self.oom_fallbacks = ("vae_slicing",)
            return "vae_slicing"
        return None


@lru_cache(maxsize=2)
def load_pipeline(checkpoint: Checkpoint, kind: Any, *, resolution_px: int) -> PipelineModel:
    """Loads a pipeline on its device; a second call returns the one already loaded.

    Args:
        checkpoint: weights of the pipeline.
        kind: diffusers' class of the pipeline.
        resolution_px: side of the square pictures that it was trained on.
    """
    pipeline: Any = kind.from_pretrained(
        checkpoint.path,
        dtype=torch_dtype(checkpoint.dtype),
        variant=checkpoint.weights_variant(),
        **checkpoint.weight_options(),
    ).to(device())
    pipeline.set_progress_bar_config(disable=True)
    for tokenizer in _tokenizers(pipeline):
        one_call_at_a_time(tokenizer)
    model = PipelineModel(
        identity=checkpoint.identity(),
        pipeline=pipeline,
        device=device(),
        resolution_px=resolution_px,
    )
    _count_calls(model)
    return model


def _tokenizers(pipeline: Any) -> list[Any]:
    """Returns the tokenizers of a pipeline, in the order of its text encoders."""
    parts = sorted(pipeline.components.items())
    return [part for name, part in parts if name.startswith("tokenizer") and part is not None]


def _max_sequence_length(pipeline: Any) -> int | None:
    """Returns the most tokens of a prompt that a pipeline encodes, where it has such a limit."""
    if not hasattr(pipeline, "encode_prompt"):
        return None
    limit = signature(pipeline.encode_prompt).parameters.get("max_sequence_length")
    return limit.default if limit is not None and isinstance(limit.default, int) else None


def _count_calls(model: PipelineModel) -> None:
    """Counts each row that the transformer and the VAE see."""

    def count_forward(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        model.spend(Cost(forward=len(kwargs["hidden_states"])))

    def count_encode(_module: Any, args: tuple[Any, ...]) -> None:
        model.spend(Cost(vae_encode=len(args[0])))

    def count_decode(_module: Any, args: tuple[Any, ...]) -> None:
        model.spend(Cost(vae_decode=len(args[0])))

    pipeline = model.pipeline
    pipeline.transformer.register_forward_pre_hook(count_forward, with_kwargs=True)
    pipeline.vae.encoder.register_forward_pre_hook(count_encode)
    pipeline.vae.decoder.register_forward_pre_hook(count_decode)
