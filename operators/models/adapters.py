"""Adapters: small weights that change a checkpoint, fused into it when it is loaded."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from overpaint.operators.models.weights import Checkpoint
from pydantic import BaseModel, ConfigDict, Field


class Adapter(BaseModel):
    """A LoRA, as diffusers and PEFT write it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: str
    """A folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null stands for `main`."""
    file: str = "pytorch_lora_weights.safetensors"
    """Name of the weights in it; safetensors."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """Factor of what the adapter adds to the weights; 0 leaves them as they are."""

    @property
    def _source(self) -> Checkpoint:
        return Checkpoint(name=self.checkpoint, revision=self.revision, field="adapters.checkpoint")

    def check(self) -> None:
        """Checks, before anything is started, that the weights can be there.

        Raises:
            ValueError: they cannot.
        """
        if not self.file.endswith(".safetensors"):
            raise ValueError(f"adapters.file = {self.file!r}: only safetensors are read")
        if self._source.is_on_hub:
            self._source.check()
        elif not self._path.is_file():
            raise ValueError(f"adapters.checkpoint = {self.checkpoint!r}: no file {self.file!r}")

    def identity(self) -> str:
        """Returns the exact weights, a hub id's revision or 16 hex digits over the file, and scale.

        Raises:
            ValueError: the file is missing.
        """
        self.check()
        if self._source.is_on_hub:
            return f"{self._source.identity()}/{self.file} x {self.scale:g}"
        return f"{_digest(self._path, self._path.stat().st_mtime_ns)} x {self.scale:g}"

    def fuse(self, pipeline: Any, name: str) -> None:
        """Adds the adapter to the weights of a diffusers pipeline.

        Args:
            pipeline: changed in place.
            name: name for PEFT, of letters; no two adapters of a pipeline share it.

        Raises:
            ValueError: the pipeline takes no LoRA.
        """
        if not hasattr(pipeline, "load_lora_weights"):
            raise ValueError(f"adapters: a {type(pipeline).__name__} takes no LoRA")
        source = self._source
        options: dict[str, Any] = {"local_files_only": True}
        if source.is_on_hub:
            options = {"revision": source.identity()}
        pipeline.load_lora_weights(
            source.path, weight_name=self.file, adapter_name=name, use_safetensors=True, **options
        )
        pipeline.fuse_lora(adapter_names=[name], lora_scale=self.scale)
        pipeline.unload_lora_weights()

    @property
    def _path(self) -> Path:
        return Path(self._source.path) / self.file


@lru_cache(maxsize=64)
def _digest(path: Path, changed_ns: int) -> str:
    del changed_ns  # an unchanged file is not read again
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
