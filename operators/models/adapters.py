"""Adapters: small weights beside a checkpoint, added to it when it is loaded."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from overpaint.operators.models.weights import Addition, Checkpoint
from overpaint.pipeline.conditions import CONDITIONS, REFERENCES, Condition
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Kind = Literal["lora", "textual_inversion", "controlnet", "ip_adapter"]
"""Kinds of adapters."""
ControlCondition = Literal["sketch", "strokes", "segmentation"]
"""Pictures of a row that a ControlNet can read."""
LORA_FILE = "pytorch_lora_weights.safetensors"


class Adapter(BaseModel):
    """A LoRA, a textual inversion, a ControlNet or an IP-Adapter, as diffusers loads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: str
    """A folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null stands for `main`."""
    file: str = LORA_FILE
    """Name of the weights in it, safetensors; a ControlNet has its own."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """Factor of what the adapter adds; 0 leaves the checkpoint as it is. A textual inversion has
    none other than 0 and 1."""
    kind: Kind = "lora"
    """`lora` is fused into the weights; `textual_inversion` gives the text encoders a word;
    `controlnet` steers the UNet by a picture of each row; `ip_adapter` lets it attend to the
    first of its references."""
    word: str = ""
    """Word of a textual inversion; empty takes the file's."""
    condition: ControlCondition = "sketch"
    """Picture of a row that a ControlNet reads; inversions are made without it."""

    image_encoder: str = "image_encoder"
    """Folder in `checkpoint` of the CLIP that an IP-Adapter sees references by."""

    @model_validator(mode="after")
    def _scale_fits(self) -> "Adapter":
        if self.kind == "textual_inversion" and self.scale not in (0.0, 1.0):
            raise ValueError(
                f"scale = {self.scale:g}: a textual inversion is there, or not: 1 or 0"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out fields that came later: an adapter without them keeps its keys."""
        fields: dict[str, Any] = usual(self)
        later = {name: type(self).model_fields[name].default for name in _LATER}
        return {name: v for name, v in fields.items() if name not in later or v != later[name]}

    @property
    def reads(self) -> Condition | None:
        """The condition of a row that it reads; None where it reads none, or does nothing."""
        read = {"controlnet": CONDITIONS[self.condition], "ip_adapter": REFERENCES}
        return read.get(self.kind) if self.scale != 0.0 else None

    @property
    def source(self) -> Checkpoint:
        """The folder or hub id of its weights."""
        return Checkpoint(name=self.checkpoint, revision=self.revision, field="adapters.checkpoint")

    def check(self) -> None:
        """Checks, before anything is started, that the weights can be there.

        Raises:
            ValueError: they cannot.
        """
        if not self.file.endswith(".safetensors"):
            raise ValueError(f"adapters.file = {self.file!r}: only safetensors are read")
        if self.source.is_on_hub or self.kind == "controlnet":
            self.source.check()
        elif self.kind == "ip_adapter" and not self._encoder_config.is_file():
            raise ValueError(f"adapters.image_encoder: {self._encoder_config} is not there")
        elif not self._path.is_file():
            raise ValueError(f"adapters.checkpoint = {self.checkpoint!r}: no file {self.file!r}")

    def identity(self) -> str:
        """Returns the exact weights, a hub id's revision or 16 hex digits over the file, and scale.

        Raises:
            ValueError: the file is missing.
        """
        self.check()
        own = "" if self.kind == "lora" else f"{self.kind} {self.word}{self.condition} "
        if self.source.is_on_hub:
            return f"{own}{self.source.identity()}/{self.file} x {self.scale:g}"
        if self.kind in _WHOLE_FOLDERS:
            return f"{own}{self.source.identity()}/{self._file} x {self.scale:g}"
        return f"{own}{_digest(self._path, self._path.stat().st_mtime_ns)} x {self.scale:g}"

    def fuse(self, pipeline: Any, name: str) -> None:
        """Adds the adapter to a diffusers pipeline; a ControlNet is loaded beside it.

        Args:
            pipeline: changed in place.
            name: name for PEFT, of letters; no two adapters of a pipeline share it.

        Raises:
            ValueError: the pipeline takes no such adapter.
        """
        if self.kind == "lora":
            self._fuse_lora(pipeline, name)
        elif self.kind == "textual_inversion" and self.scale != 0.0:
            self._add_word(pipeline)

    def _fuse_lora(self, pipeline: Any, name: str) -> None:
        if not hasattr(pipeline, "load_lora_weights"):
            raise ValueError(f"adapters: a {type(pipeline).__name__} takes no LoRA")
        pipeline.load_lora_weights(
            self.source.path,
            weight_name=self.file,
            adapter_name=name,
            use_safetensors=True,
            **self._options,
        )
        pipeline.fuse_lora(adapter_names=[name], lora_scale=self.scale)
        pipeline.unload_lora_weights()

    def _add_word(self, pipeline: Any) -> None:
        """Gives each text encoder the vectors that a file has for it."""
        from safetensors.torch import load_file

        if not hasattr(pipeline, "load_textual_inversion"):
            raise ValueError(f"adapters: a {type(pipeline).__name__} takes no textual inversion")
        vectors = load_file(self.fetched / self.file)
        parts = _text_parts(pipeline)
        if len(parts) == 1 and len(vectors) == 1:
            ((word, own),) = vectors.items()
            given = {parts[0]: own}
        else:  # of an SDXL: by the names of its encoders
            word, given = "", {part: vectors[part[2]] for part in parts if part[2] in vectors}
        if not given or not (self.word or word):
            raise ValueError(
                f"adapters: {self.file} holds {sorted(vectors)}: one word, or clip_l and clip_g "
                "with `word`"
            )
        for (tokenizer, encoder, _), own in given.items():
            pipeline.load_textual_inversion(
                own, token=self.word or word, tokenizer=tokenizer, text_encoder=encoder
            )

    @property
    def fetched(self) -> Path:
        """The folder of its weights on this machine."""
        return Path(self.source.fetched().path)

    @property
    def _file(self) -> str:
        return f"{self.file} {self.image_encoder}" if self.kind == "ip_adapter" else ""

    @property
    def _encoder_config(self) -> Path:
        return Path(self.source.path) / self.image_encoder / "config.json"

    @property
    def _options(self) -> dict[str, Any]:
        source = self.source
        return {"revision": source.identity()} if source.is_on_hub else {"local_files_only": True}

    @property
    def _path(self) -> Path:
        return Path(self.source.path) / self.file


@lru_cache(maxsize=64)
def _digest(path: Path, changed_ns: int) -> str:
    del changed_ns  # an unchanged file is not read again
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


_WHOLE_FOLDERS = ("controlnet", "ip_adapter")
"""Kinds that read more than one file of their folder."""
_LATER = ("kind", "word", "condition", "image_encoder")
"""Fields that an adapter of an earlier recipe has not."""


def _text_parts(pipeline: Any) -> list[tuple[Any, Any, str]]:
    """Returns tokenizers and text encoders with the names that files have for these."""
    names = (("tokenizer", "text_encoder", "clip_l"), ("tokenizer_2", "text_encoder_2", "clip_g"))
    parts: Mapping[str, Any] = pipeline.components
    return [(parts[t], parts[e], name) for t, e, name in names if parts.get(e) is not None]


def check_kinds(adapters: Sequence[Addition], kinds: Sequence[str], taker: str) -> None:
    """Checks that adapters are of kinds that a method takes.

    Raises:
        ValueError: one is not.
    """
    for adapter in adapters:
        if adapter.kind not in kinds:
            raise ValueError(
                f"adapters.kind = {adapter.kind!r}: {taker} takes {' or '.join(kinds)}"
            )
