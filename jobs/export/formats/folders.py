"""folders: targets, sources and masks of equal names, with the words beside the targets."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from overpaint.jobs.export import configs
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit
from overpaint.jobs.export.format import Format, Target

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_PARTS = ("targets", "sources", "masks")


class Folders(Format):
    """Folders for ai-toolkit, SimpleTuner, diffusion-pipe and musubi-tuner, with their settings."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._splits: dict[str, None] = {}

    def add(self, example: Example) -> None:
        """Writes the pictures, the mask and the words."""
        self._splits[example.split] = None
        files = {
            f"targets/{example.name}{self.suffix}": example.winner.picture.data,
            f"targets/{example.name}.txt": f"{example.caption}\n".encode(),
            f"sources/{example.name}{self.suffix}": example.source.data,
            f"masks/{example.name}.png": example.mask,
        }
        for path, data in files.items():
            self.destination.write(f"{example.split}/{path}", data)

    def close(self) -> None:
        """Writes the trainers' settings, for the split `train`."""
        split = configs.trained(self._splits)
        texts = {
            "ai-toolkit.yaml": configs.filled(configs.AI_TOOLKIT, split),
            "diffusion-pipe.toml": configs.filled(configs.DIFFUSION_PIPE, split),
            "musubi.toml": configs.filled(configs.MUSUBI, split),
            "simpletuner.json": configs.simpletuner(split),
        }
        for name, text in texts.items():
            self.destination.write(f"configs/{name}", text.encode())

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the settings."""
        del facts
        return (
            "`configs/` has settings for ai-toolkit, SimpleTuner (multidatabackend.json), "
            "diffusion-pipe and musubi-tuner. Their paths are relative to this folder: start the "
            "trainer here, or write whole paths."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what trainers make of each target, and files that belong to none."""
        for split in exported.splits:
            files = {part: exported.names(f"{split}/{part}") for part in _PARTS}
            targets = [name for name in files["targets"] if name.endswith(_PICTURES)]
            stems = {_stem(name) for name in targets}
            for part in ("sources", "masks"):
                for name in files[part]:
                    if _stem(name) not in stems:
                        yield Fault(
                            f"{part}/{name} has no target: trainers do not see it",
                            split,
                            _stem(name),
                        )
            captions = {_stem(name) for name in files["targets"] if name.endswith(".txt")}
            sources = {_stem(name): name for name in files["sources"]}
            yield from exported.each(
                partial(cls._one, exported, split, name, sources, _stem(name) in captions)
                for name in targets
            )

    @classmethod
    def _one(
        cls,
        exported: Exported,
        split: str,
        name: str,
        sources: Mapping[str, str],
        has_caption: bool,
    ) -> Finding:
        stem = _stem(name)
        fault = cls._fault(exported, split, name, sources.get(stem), has_caption)
        return finding(fault, split, stem)

    @classmethod
    def _fault(
        cls, exported: Exported, split: str, name: str, source: str | None, has_caption: bool
    ) -> str | None:
        stem = _stem(name)
        if source is None:
            return (
                "the control (source) is missing: ai-toolkit would train without it and say "
                "nothing, diffusion-pipe would stop"
            )
        if source != name:
            return (
                f"the source is {source} beside {name}: of another extension, SimpleTuner does "
                "not match them"
            )
        caption = exported.read(f"{split}/targets/{stem}.txt") if has_caption else None
        if caption is None or not caption.strip():
            return "the caption is missing: trainers would take an empty one"
        if len(caption.decode(errors="replace").strip().splitlines()) > 1:
            return "the caption has several lines: SimpleTuner takes each for a caption"
        before, after = (exported.read(f"{split}/{part}/{name}") for part in ("sources", "targets"))
        return unfit(before, after, key=stem, is_reversed=exported.is_reversed)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
