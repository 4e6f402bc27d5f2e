"""rl as edit-r1: the JSON lines that Edit-R1 (UniWorld-V2) reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, size_of, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.text_files import BySplit, JsonLines


class RlEditR1(Format):
    """`train_metadata.jsonl` and `test_metadata.jsonl` with prompt, image and requirement."""

    makes: ClassVar[Kind] = "prompts"
    needs_splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lines = BySplit(lambda split: JsonLines(self.destination, f"{split}_metadata.jsonl"))

    def add(self, example: Example) -> None:
        """Writes the source, and adds a line."""
        path = f"images/{example.name}{self.suffix}"
        self.destination.write(path, example.source.data)
        self._lines.of(example.split).add(
            {"prompt": example.caption, "image": path, "requirement": example.truth}
        )

    def close(self) -> None:
        """Writes the lines."""
        self._lines.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "Edit-R1: `config.dataset = FOLDER`. It cuts every source to a square around its "
            "centre. `requirement` says what a right result shows: the target prompt, or the "
            "instruction where there is none."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each line."""
        for split in cls.needs_splits:
            if split not in exported.splits:
                yield Fault(f"{split}_metadata.jsonl is missing or empty: the trainer reads it")
        for split in exported.splits:
            lines = exported.json_lines(f"{split}_metadata.jsonl")
            yield from exported.each(partial(cls._one, exported, split, line) for line in lines)

    @classmethod
    def _one(cls, exported: Exported, split: str, line: Any) -> Finding:
        if not isinstance(line, dict) or not isinstance(line.get("image"), str):
            return Fault(f"{split}_metadata.jsonl: a line has no image, or a list of them")
        name = line["image"].rpartition("/")[2].rpartition(".")[0]
        fault = wrong_text(line.get("prompt"), "prompt") or wrong_text(
            line.get("requirement"), "requirement"
        )
        if fault is None and size_of(exported.read(line["image"])) is None:
            fault = "image is missing, or no picture"
        return finding(fault, split, name)
