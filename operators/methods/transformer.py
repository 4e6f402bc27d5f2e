"""The transformer editors of diffusers: FLUX.2, Qwen-Image-Edit, LongCat and others.

The class in the checkpoint's `model_index.json` says which of the calls in `operators/pipelines`
is made; a hub id, which nothing is read of before the run, needs `editor`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from overpaint.operators.diffusion.pipeline_call import CallSettings, PipelineCall
from overpaint.operators.diffusion.pipeline_method import PipelineMethod
from overpaint.operators.diffusion.speed import (
    Acceleration,
    Cache,
    Speed,
    Storage,
    check_cache,
    check_ratios,
)
from overpaint.operators.models.adapters import check_kinds
from overpaint.operators.models.attention_backends import check_attention_backend
from overpaint.operators.models.quantization import (
    WHOLE,
    Quantization,
    Quantized,
    check_components,
    check_quantization,
)
from overpaint.operators.models.weights import Checkpoint, parts_with_weights, read_index
from overpaint.operators.pipelines import GENERIC, PIPELINES, editor_of, known_classes
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.conditions import MASK, REFERENCES, Condition
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT
from pydantic import Field, field_validator

MethodT = TypeVar("MethodT", bound="Transformer")


class Transformer(PipelineMethod):
    """A transformer editor of diffusers, chosen by the class of the checkpoint."""

    family = "F11"
    edit_types = ("add", "remove", "replace", "background", "color", "texture", "style", "pose")
    checkpoints = known_classes(first="flux2_klein")
    prompt = c.INSTRUCTION
    uses = (REFERENCES,)

    editor: str = ""
    """Call of the pipeline, such as `flux2_klein`, or `my_package.module:ClassName`; empty takes
    the one for a folder's class. A hub id needs it."""
    num_inference_steps: int = Field(default=0, ge=0, le=1000)
    """Denoising steps from noise to picture; 0 takes those of the editor."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """Scale of the guidance, of whichever kind the editor has; null takes the editor's. At most 1
    turns true classifier-free guidance off."""
    negative_prompt: str = " "
    """Prompt of the second branch of true classifier-free guidance, where the editor reads one."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that an editor walks which is given the mask."""
    is_distilled: bool | None = None
    """Whether the weights are distilled to need no guidance; null reads it of a folder."""
    speed: Speed = "exact"
    """`exact` is eager; `fast` compiles the repeated blocks, for each size anew; `draft` adds a
    cache of a fixed schedule, TaylorSeer, which changes the picture."""
    cache: Cache = ""
    """Cache of steps: `taylorseer`, `mag` (MagCache), `pyramid_attention_broadcast` where guidance
    needs no second branch, or `first_block` where a call has one row; empty takes that of the
    speed. `sea`, `teacache`, `dbcache`, `faster` and `text_kv` are refused."""
    mag_ratios: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(), json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Factors by which MagCache knows how residuals change, one for each step, or as many as are
    known; the checkpoint's own."""
    attention_backend: str = Field(default="", json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Kernels of the transformer's attention, by diffusers' names: `native`, `_native_cudnn`,
    `flash`, `_flash_3`, `sage`, `xformers` and others; empty lets PyTorch choose."""
    storage: Storage = ""
    """Number type in which the weights of the transformer are kept between calls: `float8` halves
    the memory of bfloat16; empty keeps that of the checkpoint."""
    quantization: Quantization = Field(default="", json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Quantised weights, made of the checkpoint's with its adapters: `int8_weight_only` and
    `float8_weight_only` by torchao, `bitsandbytes_8bit` (LLM.int8) and `bitsandbytes_4bit` (nf4).
    The host holds them whole while they are loaded, the device only quantised."""
    components_to_quantize: tuple[str, ...] = Field(
        default=("transformer",), json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Parts of the pipeline whose weights are quantised, such as `text_encoder`."""

    @field_validator("editor")
    @classmethod
    def _editor_is_known(cls, name: str) -> str:
        try:
            return name and PIPELINES.name_of(PIPELINES.find(name))
        except UsageError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns what is known of every method, and the editors."""
        editors = {f"editor {name}": PIPELINES.find(name).summary() for name in PIPELINES.names()}
        told = {"evaluations": "by editor", "checkpoints": "by editor"}
        return {**super().facts(), **told, **editors}

    def for_checkpoint(self, checkpoint: str) -> Self:
        """Returns the method with the editor, steps and guidance of a checkpoint."""
        folder = Path(Checkpoint(name=checkpoint).path)
        index = folder / "model_index.json"
        own: Any = self  # frozen, so hashable
        return _resolved(own, folder, index.stat().st_mtime_ns if index.is_file() else 0)

    @property
    def call(self) -> PipelineCall:
        """The way of calling the pipeline."""
        return PIPELINES.find(self.editor or GENERIC)()

    def call_settings(self, num_inference_steps: int) -> CallSettings:
        """Returns the numbers and words of its calls."""
        return CallSettings(
            num_inference_steps=num_inference_steps,
            guidance_scale=self.call.guidance_scale
            if self.guidance_scale is None
            else self.guidance_scale,
            negative_prompt=self.negative_prompt,
            strength=self.strength,
            is_distilled=bool(self.is_distilled),
        )

    @property
    def acceleration(self) -> Acceleration:
        """The ways in which the transformer is made faster or smaller."""
        return Acceleration(
            speed=self.speed,
            cache=self.cache,
            storage=self.storage,
            attention_backend=self.attention_backend,
            mag_ratios=self.mag_ratios,
            num_inference_steps=self.num_inference_steps if self.cache == "mag" else 0,
        )

    @property
    def quantized(self) -> Quantized:
        """The quantised weights."""
        own = Quantized(self.quantization, self.components_to_quantize)
        return own if own.quantization else WHOLE

    def check_batch(self, batch_size: int) -> None:
        """Checks that caches of steps and quantised weights are there and keep rows apart.

        Raises:
            ValueError: they are not, or do not.
        """
        own, call = self.acceleration, self.call
        rows_a_call = batch_size if call.shares_calls else 1
        check_cache(self.cache, rows_a_call=rows_a_call)
        call.check_cache(own.chosen_cache, self.call_settings(self.num_inference_steps))
        check_ratios(own, strength=self.strength if call.uses_mask else 1.0)
        check_attention_backend(self.attention_backend)
        check_quantization(self.quantization, rows_a_call=rows_a_call)
        if self.quantization and self.storage:
            raise ValueError("quantization, storage: weights are kept in one way, not in two")

    @property
    def needed(self) -> tuple[Column | Condition, ...]:
        """The mask, where the editor is given it."""
        return (MASK,) if self.editor and self.call.uses_mask else ()

    @property
    def used(self) -> tuple[Column | Condition, ...]:
        """The references, where the editor takes any."""
        return () if self.editor and self.call.max_references == 0 else self.uses

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks that there is an editor for the checkpoint, and that it takes what is added.

        Raises:
            ValueError: there is none, or it does not.
        """
        check_kinds(checkpoint.adapters, self.takes_adapters, "a transformer editor")
        checkpoint.check()
        if not self.editor:
            names = ", ".join(PIPELINES.names())
            raise ValueError(
                f"checkpoint = {checkpoint.name!r}: nothing is read of the hub before a run: name "
                f"its editor: {names}"
            )
        kind = read_index(Path(checkpoint.path)).get("_class_name")
        known = (*self.call.classes, *self.call.same_parts)
        if kind is not None and known and kind not in known:
            raise ValueError(
                f"editor = {self.editor!r} takes a {' or '.join(known)}: "
                f"checkpoint = {checkpoint.name!r} is a {kind}"
            )
        if checkpoint.adapters and not self.call.takes_lora:
            raise ValueError(f"adapters: diffusers loads no LoRA into a {known[0]}")
        if kind is not None and self.quantization:
            check_components(self.components_to_quantize, parts_with_weights(checkpoint))


@lru_cache(maxsize=256)
def _resolved(method: MethodT, folder: Path, changed_ns: int) -> MethodT:
    """Returns a method with what a folder says, and what its editor has for fields at rest."""
    index = read_index(folder) if changed_ns else {}
    editor = method.editor or (editor_of(index["_class_name"]) if "_class_name" in index else "")
    if not editor:
        return method
    call: PipelineCall = PIPELINES.find(editor)()
    is_distilled = method.is_distilled
    if is_distilled is None:
        is_distilled = bool(index.get("is_distilled", False))
    steps = call.distilled_steps if is_distilled else call.num_inference_steps
    scale = 1.0 if is_distilled else call.guidance_scale
    own = {
        "editor": editor,
        "is_distilled": is_distilled,
        "num_inference_steps": method.num_inference_steps or steps,
        "guidance_scale": scale if method.guidance_scale is None else method.guidance_scale,
    }
    return method.model_copy(update=own)
