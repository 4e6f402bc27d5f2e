"""Which weights an operator means, and whether they are of the kind that it needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.operators.models import weights as checkpoints
from overpaint.operators.models.device import DtypeName


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A diffusers pipeline: "papercut", a folder, or a hub id at a revision, and its number type.

    Attributes:
        name: the value of the operator's `checkpoint`.
        revision: of a hub id; None for its main branch.
        variant: of the weight files, such as `fp16`; None finds it in a folder.
        dtype: the number type to compute in.
        part: which papercut checkpoint is meant.
    """

    name: str
    revision: str | None = None
    variant: str | None = None
    dtype: DtypeName = "float32"
    part: str = "text_to_image"

    @property
    def path(self) -> str:
        """What `from_pretrained` takes."""
        return checkpoints.resolve(self.name, self.part)

    def identity(self) -> str:
        """The exact weights: a revision, or a digest of the files."""
        return checkpoints.identity(self.name, self.revision, self.part)

    def check(self, classes: tuple[str, ...]) -> None:
        """Looks whether it can be there and is one of the given pipeline classes.

        Raises:
            ValueError: naming the field, the value and what would be right.
        """
        checkpoints.check("checkpoint", self.name, self.part, self.revision)
        if checkpoints.is_hub_id(self.name):
            return
        found = _pipeline_class(Path(self.path))
        if found not in classes:
            raise ValueError(
                f"checkpoint = {self.name!r} is a {found}: this takes a {' or '.join(classes)}"
            )

    def found_variant(self) -> str | None:
        """The variant to read: the one asked for, or a folder's only one."""
        folder = Path(self.path)
        if self.variant is not None or not folder.is_dir():
            return self.variant
        # model.safetensors has no variant; model.fp16.safetensors and its shards have one.
        names = [path.name.split(".") for path in folder.glob("*/*.safetensors")]
        variants = {name[1].split("-")[0] if len(name) > 2 else None for name in names}
        return variants.pop() if len(variants) == 1 else None


def read_index(folder: Path) -> Mapping[str, Any]:
    """The `model_index.json` of a pipeline's folder; empty where there is none."""
    index = folder / "model_index.json"
    return json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}


def _pipeline_class(folder: Path) -> str:
    return str(read_index(folder).get("_class_name", "folder without a model_index.json"))
