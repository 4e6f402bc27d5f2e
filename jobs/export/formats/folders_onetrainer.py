"""folders as onetrainer: one folder, with the source and the mask beside each target."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export import configs
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit
from overpaint.jobs.export.format import Format, Target

_CONDITION, _MASK = "-condlabel.png", "-masklabel.png"
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class FoldersOnetrainer(Format):
    """Files `K.png`, `K.txt`, `K-condlabel.png` and `K-masklabel.png`, as OneTrainer finds them."""

    image_formats: ClassVar[tuple[str, ...]] = ("png",)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._splits: dict[str, None] = {}

    def add(self, example: Example) -> None:
        """Writes the pictures, the mask and the words."""
        self._splits[example.split] = None
        files = {
            ".png": example.winner.picture.data,
            ".txt": f"{example.caption}\n".encode(),
            _CONDITION: example.source.data,
            _MASK: example.mask,
        }
        for ending, data in files.items():
            self.destination.write(f"{example.split}/{example.name}{ending}", data)

    def close(self) -> None:
        """Writes the concepts, for the split `train`."""
        text = configs.onetrainer(configs.trained(self._splits))
        self.destination.write("configs/concepts.json", text.encode())

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the settings."""
        del facts
        return (
            "OneTrainer: `configs/concepts.json` names the folder, relative to this one. Turn on "
            "`custom_conditioning_image`; `masked_training` learns where masks are white."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what OneTrainer makes of each picture, and labels that belong to none."""
        for split in exported.splits:
            names = exported.names(split)
            labels = [name for name in names if name.endswith((_CONDITION, _MASK))]
            targets = [n for n in names if n.endswith(_PICTURES) and n not in set(labels)]
            stems = {name.rpartition(".")[0] for name in targets}
            for name in labels:
                stem = name.removesuffix(_CONDITION).removesuffix(_MASK)
                if stem not in stems:
                    yield Fault(f"{name} has no target: OneTrainer does not see it", split, stem)
            yield from exported.each(
                partial(cls._one, exported, split, name, set(names)) for name in targets
            )

    @classmethod
    def _one(cls, exported: Exported, split: str, name: str, names: set[str]) -> Finding:
        stem = name.rpartition(".")[0]
        if f"{stem}.txt" not in names:
            return Fault("the caption is missing: OneTrainer takes an empty one", split, stem)
        fault = unfit(
            exported.read(f"{split}/{stem}{_CONDITION}"),
            exported.read(f"{split}/{name}"),
            key=stem,
            is_reversed=exported.is_reversed,
            words=("condlabel", "target"),
        )
        return finding(fault, split, stem)
