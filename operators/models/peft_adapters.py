"""LoRAs of transformers' models, as PEFT saves them: merged into the weights when they are loaded.

Those of diffusers' pipelines are in `adapters`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.conditions import Condition
from pydantic import BaseModel, ConfigDict, Field

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class PeftAdapter(BaseModel):
    """A LoRA that PEFT has saved: `adapter_config.json` and `adapter_model.safetensors`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: str
    """A folder here or on a store, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id, null for `main`; of a folder on a store its identity."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """Factor of what the adapter adds; 0 leaves the checkpoint as it is."""

    @property
    def kind(self) -> Literal["lora"]:
        """The kind of adapters."""
        return "lora"

    @property
    def file(self) -> str:
        """The name of the file of weights."""
        return WEIGHTS

    @property
    def image_encoder(self) -> str:
        """The folder of an encoder of pictures: there is none."""
        return ""

    @property
    def reads(self) -> Condition | None:
        """The condition of a row that it reads: none."""
        return None

    @property
    def source(self) -> Checkpoint:
        """The folder or hub id of its weights."""
        return Checkpoint(name=self.checkpoint, revision=self.revision, field="adapters.checkpoint")

    @property
    def fetched(self) -> Path:
        """The folder of its weights on this machine."""
        return Path(self.source.fetched().path)

    def check(self) -> None:
        """Checks, before anything is started, that the weights can be there.

        Raises:
            ValueError: they cannot, or they are no LoRA.
        """
        if self.source.is_on_hub:
            self.source.check()
        elif not self.source.is_on_store:
            self._check_folder(Path(self.source.path))

    def identity(self) -> str:
        """Returns the exact weights, and the scale.

        Raises:
            ValueError: they are missing.
        """
        self.check()
        return f"{self.source.identity()} x {self.scale:g}"

    def fuse(self, pipeline: Any, name: str) -> None:
        """Merges the adapter into a transformers model.

        Args:
            pipeline: model, changed in place.
            name: name for PEFT, of letters.

        Raises:
            ValueError: the model lacks layers that the adapter changes.
        """
        if self.scale == 0.0:
            return
        from peft import PeftConfig, PeftModel
        from peft.tuners.lora import LoraLayer

        folder = self.fetched
        self._check_folder(folder)
        adapted: Any = PeftModel(pipeline, PeftConfig.from_pretrained(str(folder)), name)
        found = adapted.load_adapter(str(folder), name, torch_device="cpu")
        if lost := [*found.unexpected_keys, *found.missing_keys]:
            raise ValueError(
                f"adapters.checkpoint = {self.checkpoint!r}: it is of another model: {lost[0]}"
            )
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.scale_layer(self.scale)
        adapted.merge_and_unload()

    def _check_folder(self, folder: Path) -> None:
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise ValueError(f"adapters.checkpoint = {self.checkpoint!r}: no file {file!r}")
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if (kind := config.get("peft_type")) != "LORA":
            raise ValueError(f"adapters.checkpoint = {self.checkpoint!r} is {kind}, not a LORA")
        if self.scale != 1.0 and (whole := config.get("modules_to_save")):
            raise ValueError(
                f"adapters.scale = {self.scale:g}: the adapter replaces {whole[0]!r} as a whole, "
                "which has no scale but 1"
            )
