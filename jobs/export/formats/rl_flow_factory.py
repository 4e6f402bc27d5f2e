"""rl as flow-factory: the JSON lines that Flow-Factory reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, size_of, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.text_files import BySplit, JsonLines


class RlFlowFactory(Format):
    """`train.jsonl` with `prompt` and `images`, whose paths are relative to `images/`."""

    makes: ClassVar[Kind] = "prompts"
    takes_references: ClassVar[bool] = True

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lines = BySplit(lambda split: JsonLines(self.destination, f"{split}.jsonl"))

    def add(self, example: Example) -> None:
        """Writes the pictures that an editor is shown, and adds a line."""
        shown = {f"{example.name}{self.suffix}": example.source}
        for number, reference in enumerate(example.references):
            shown[f"{example.name}_{number + 1}{self.suffix}"] = reference
        for name, picture in shown.items():
            self.destination.write(f"images/{name}", picture.data)
        line = {"prompt": example.caption, "images": list(shown)}
        told = {"requirement": example.truth, "edit_type": example.edit_type}
        self._lines.of(example.split).add({**line, **told})

    def close(self) -> None:
        """Writes the lines."""
        self._lines.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "Flow-Factory: `dataset_dir: FOLDER`. `requirement` and `edit_type` come to rewards "
            "as metadata."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each line."""
        for split in exported.splits:
            lines = exported.json_lines(f"{split}.jsonl")
            yield from exported.each(partial(cls._one, exported, split, line) for line in lines)

    @classmethod
    def _one(cls, exported: Exported, split: str, line: Any) -> Finding:
        images = line.get("images", line.get("image")) if isinstance(line, dict) else None
        names = [images] if isinstance(images, str) else images
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            return Fault(f"{split}.jsonl: a line has no images: it would train without a source")
        fault = wrong_text(line.get("prompt"), "prompt")
        if fault is None and any(size_of(exported.read(f"images/{n}")) is None for n in names):
            fault = "an image is missing, or no picture"
        return finding(fault, split, names[0].rpartition("/")[2].rpartition(".")[0])
