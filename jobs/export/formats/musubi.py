"""musubi: JSON lines and the settings that musubi-tuner reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export import configs
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.text_files import BySplit, JsonLines


class Musubi(Format):
    """Lines with `image_path`, `control_path` (or `control_path_0`, ...) and `caption`."""

    takes_references: ClassVar[bool] = True

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lines = BySplit(lambda split: JsonLines(self.destination, f"{split}.jsonl"))
        self._splits: dict[str, None] = {}

    def add(self, example: Example) -> None:
        """Writes the pictures, and adds a line to the file of the example's split."""
        self._splits[example.split] = None
        name, suffix = example.name, self.suffix
        target = f"images/{name}{suffix}"
        shown = {f"sources/{name}{suffix}": example.source}
        for number, reference in enumerate(example.references):
            shown[f"sources/{name}_{number + 1}{suffix}"] = reference
        for path, picture in {target: example.winner.picture, **shown}.items():
            self.destination.write(path, picture.data)
        is_one = len(shown) == 1
        controls = {
            "control_path" if is_one else f"control_path_{number}": path
            for number, path in enumerate(shown)
        }
        line = {"image_path": target, **controls, "caption": example.caption}
        self._lines.of(example.split).add(line)

    def close(self) -> None:
        """Writes the lines, and settings for the split `train`."""
        self._lines.close()
        text = configs.filled(configs.MUSUBI_JSONL, configs.trained(self._splits))
        self.destination.write("musubi.toml", text.encode())

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the argument of musubi-tuner's scripts."""
        del facts
        return (
            "musubi-tuner: `--dataset_config musubi.toml`, started in this folder: paths are "
            "relative to it."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what musubi-tuner makes of each line."""
        for split in exported.splits:
            lines = exported.json_lines(f"{split}.jsonl")
            yield from exported.each(partial(cls._one, exported, split, line) for line in lines)

    @classmethod
    def _one(cls, exported: Exported, split: str, line: Any) -> Finding:
        if not isinstance(line, dict) or not isinstance(line.get("image_path"), str):
            return Fault(f"{split}.jsonl: a line has no image_path, or a list of them")
        target = line["image_path"]
        name = target.rpartition("/")[2].rpartition(".")[0]
        controls = [line[key] for key in sorted(line) if key.startswith("control_path")]
        if not controls:
            return Fault("control_path is missing: it would train without one", split, name)
        if not all(isinstance(control, str) for control in controls):
            return Fault("control_path is a list where one path is read", split, name)
        files = [exported.read(control) for control in controls]
        if None in files:
            return Fault("a control image is missing", split, name)
        fault = wrong_text(line.get("caption"), "caption") or unfit(
            files[0],
            exported.read(target),
            key=name,
            is_reversed=exported.is_reversed,
            words=("control", "image"),
        )
        return finding(fault, split, name)
