"""A diffusers pipeline of a transformer editor, loaded once in each actor.

Its calls remember: a prompt is embedded once, with the pictures that the text encoder sees beside
it, and a picture is encoded once for all the edits of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from inspect import signature
from typing import Any

import torch
from overpaint.operators.diffusion.speed import EXACT, Acceleration, speed_up
from overpaint.operators.models.additions import add_to_pipeline
from overpaint.operators.models.content import content_key, num_bytes
from overpaint.operators.models.picture_processors import picture_processors
from overpaint.operators.models.pretrained import device, quietly, torch_dtype
from overpaint.operators.models.quantization import WHOLE, Quantized, quantize
from overpaint.operators.models.tokenizing import TextLength, one_call_at_a_time, text_length
from overpaint.operators.models.weights import Checkpoint
from overpaint.operators.recent import Recent
from overpaint.pipeline.cost import Cost

_EMBEDDING = ("encode_prompt", "encode_prompt_multiple_images")
"""Methods of pipelines that embed prompts."""
_MAX_PROMPT_BYTES = 1 << 30
_MAX_SOURCE_BYTES = 1 << 28


@dataclass(eq=False, kw_only=True, slots=True)
class PipelineModel:
    """A loaded pipeline.

    Attributes:
        identity: revision or digest of the exact weights.
        pipeline: diffusers' pipeline.
        device: where it computes.
        resolution_px: side of the square pictures that it was trained on.
        multiple_px: number that the sides of a picture are multiples of.
        spent: network evaluations so far, over all rows.
        oom_fallbacks: ways in which memory was freed that can change the last digit.
        prompts: embeddings of the latest prompts.
        sources: latents of the latest pictures.
        is_offloaded: whether each part is on the device only while it computes.
    """

    identity: str
    pipeline: Any
    device: torch.device
    resolution_px: int
    multiple_px: int
    spent: Cost = field(default_factory=Cost)
    oom_fallbacks: tuple[str, ...] = ()
    prompts: Recent[Any] = field(default_factory=lambda: Recent(_MAX_PROMPT_BYTES))
    sources: Recent[Any] = field(default_factory=lambda: Recent(_MAX_SOURCE_BYTES))
    is_offloaded: bool = False

    def spend(self, cost: Cost) -> None:
        """Counts network evaluations."""
        self.spent = self.spent + cost

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


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineUse:
    """Wishes of a method for its pipeline.

    Attributes:
        kinds: diffusers' classes that it may be of; none for any.
        same_parts: classes whose checkpoints have the parts of the first of those.
        resolution_px: side of the square pictures that it was trained on.
        multiple_px: number that the sides of a picture are multiples of; None for pipelines that
            pack 2 x 2 latent pixels.
        acceleration: ways in which the transformer is made faster or smaller.
        quantized: its quantised weights.
    """

    kinds: tuple[str, ...]
    same_parts: tuple[str, ...] = ()
    resolution_px: int
    multiple_px: int | None = None
    acceleration: Acceleration = EXACT
    quantized: Quantized = WHOLE


@lru_cache(maxsize=2)
def load_pipeline(checkpoint: Checkpoint, use: PipelineUse) -> PipelineModel:
    """Loads a pipeline on its device; a second call returns the one already loaded.

    Raises:
        ValueError: the checkpoint is of another class, or cannot be used so.
    """
    files = checkpoint.fetched()
    with quietly():
        kind, index = _pipeline_class(files, use)
        pipeline: Any = kind.from_pretrained(
            files.path,
            dtype=torch_dtype(files.dtype),
            variant=files.weights_variant(),
            **picture_processors(files, index),
            **files.weight_options(),
        )
        if not use.quantized.quantization:
            pipeline.to(device())
        add_to_pipeline(pipeline, files)
        quantize(pipeline, use.quantized, device())
        pipeline.to(device())
    speed_up(pipeline, use.acceleration)
    pipeline.set_progress_bar_config(disable=True)
    for tokenizer in _tokenizers(pipeline):
        one_call_at_a_time(tokenizer)
    model = PipelineModel(
        identity=checkpoint.identity(),
        pipeline=pipeline,
        device=device(),
        resolution_px=use.resolution_px,
        multiple_px=use.multiple_px or 2 * _factor_px(pipeline),
    )
    _count_calls(model)
    _remember_calls(model)
    return model


def _pipeline_class(checkpoint: Checkpoint, use: PipelineUse) -> tuple[Any, Any]:
    """Returns the class of a checkpoint's pipeline, and its `model_index.json`."""
    import diffusers
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    index: Any = DiffusionPipeline.load_config(checkpoint.path, **checkpoint.source_options())
    name: Any = index.get("_class_name")
    name = use.kinds[0] if name in use.same_parts else name
    kind: Any = getattr(diffusers, str(name), None)
    if kind is None or (use.kinds and name not in use.kinds):
        wanted = " or ".join(use.kinds) or "pipeline of the installed diffusers"
        raise ValueError(f"checkpoint = {checkpoint.name!r} is a {name}: this takes a {wanted}")
    return kind, index


def _factor_px(pipeline: Any) -> int:
    """Returns the pixels along a latent pixel's side."""
    names = ("vae_scale_factor", "vae_scale_factor_spatial")
    return next((int(getattr(pipeline, name)) for name in names if hasattr(pipeline, name)), 8)


def _tokenizers(pipeline: Any) -> list[Any]:
    """Returns the tokenizers of a pipeline, in the order of its text encoders."""
    parts = sorted(pipeline.components.items())
    named = [part for name, part in parts if name.startswith("tokenizer") and part is not None]
    return [getattr(part, "tokenizer", part) for part in named]


def _max_sequence_length(pipeline: Any) -> int | None:
    """Returns the most tokens of a prompt that a pipeline encodes, where it has such a limit."""
    if not hasattr(pipeline, "encode_prompt"):
        return None
    limit = signature(pipeline.encode_prompt).parameters.get("max_sequence_length")
    return limit.default if limit is not None and isinstance(limit.default, int) else None


def _count_calls(model: PipelineModel) -> None:
    """Counts each row that the networks see, but for prompts, which `_remember_calls` counts."""

    def count(part: Any, kind: str, argument: str = "") -> None:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = kwargs[argument] if argument in kwargs else args[0]
            model.spend(Cost(**{kind: len(given)}))

        if part is not None:
            part.register_forward_pre_hook(hook, with_kwargs=True)

    pipeline = model.pipeline
    count(getattr(pipeline, "transformer", None), "forward", "hidden_states")
    count(pipeline.vae.encoder, "vae_encode")
    count(pipeline.vae.decoder, "vae_decode")
    encoder = getattr(pipeline, "text_encoder", None)
    towers = dict(encoder.named_modules()) if isinstance(encoder, torch.nn.Module) else {}
    tower = next((part for name, part in towers.items() if name.endswith("visual")), None)
    count(tower, "vision", "grid_thw")


def _remember_calls(model: PipelineModel) -> None:
    """Makes a pipeline embed equal prompts once, and encode equal pictures once."""
    pipeline = model.pipeline
    for name in _EMBEDDING:
        if hasattr(pipeline, name):
            setattr(pipeline, name, _remembered_prompts(model, getattr(pipeline, name)))
    encode = pipeline.vae.encode

    @wraps(encode)
    def encode_once(pictures: Any, *args: Any, **options: Any) -> Any:
        key = content_key([pictures, args, options])
        return model.sources.get(key, lambda: encode(pictures, *args, **options), num_bytes)

    pipeline.vae.encode = encode_once


def _remembered_prompts(model: PipelineModel, embed: Callable[..., Any]) -> Callable[..., Any]:
    shape = signature(embed)

    @wraps(embed)
    def embed_once(*args: Any, **options: Any) -> Any:
        given = {k: v for k, v in shape.bind(*args, **options).arguments.items() if v is not None}
        prompt = given.get("prompt")
        if prompt is None or "prompt_embeds" in given:
            return embed(*args, **options)  # embedded before

        def counted() -> Any:
            model.spend(Cost(text=1))
            return embed(*args, **options)

        rest = {name: value for name, value in given.items() if name != "prompt"}
        text = prompt if isinstance(prompt, str) else "\n".join(prompt)
        return model.prompts.get((text, content_key(rest)), counted, num_bytes)

    return embed_once
