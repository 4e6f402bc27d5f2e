"""preference as longcat: the JSON lines that LongCat-Image's edit_dpo reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, size_of, wrong_text
from overpaint.jobs.export.format import Target
from overpaint.jobs.export.preference import Preference, fault_of_files, name_of
from overpaint.jobs.export.text_files import BySplit, JsonLines

_PATHS = ("ref_img_path", "img_path_win", "img_path_lose")


class PreferenceLongcat(Preference):
    """Lines with `img_path_win`, `img_path_lose`, `ref_img_path`, `prompt`, `width`, `height`."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lines = BySplit(lambda split: JsonLines(self.destination, f"{split}.jsonl"))

    def add(self, example: Example) -> None:
        """Writes the pictures, and adds a line."""
        paths = dict(zip(_PATHS, self.write_pictures(example), strict=True))
        size = {"width": example.source.width_px, "height": example.source.height_px}
        self._lines.of(example.split).add({**paths, "prompt": example.caption, **size})

    def close(self) -> None:
        """Writes the lines."""
        self._lines.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "LongCat-Image, train_examples/edit_dpo: `data_txt_root: train.jsonl`, started in "
            "this folder: paths are relative to it."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each line."""
        for split in exported.splits:
            lines = exported.json_lines(f"{split}.jsonl")
            yield from exported.each(partial(cls._one, exported, split, line) for line in lines)

    @classmethod
    def _one(cls, exported: Exported, split: str, line: Any) -> Finding:
        if not isinstance(line, dict) or not {*_PATHS, "prompt"} <= line.keys():
            return Fault(f"{split}.jsonl: a line lacks one of {', '.join(_PATHS)}, prompt")
        name = name_of(line["img_path_win"], line["img_path_lose"])
        return finding(cls._fault(exported, line), split, name)

    @classmethod
    def _fault(cls, exported: Exported, line: Mapping[str, Any]) -> str | None:
        if not isinstance(line.get("width"), int) or not isinstance(line.get("height"), int):
            return "width or height is missing: the trainer prints an error and goes on without it"
        if line["img_path_win"] == line["img_path_lose"]:
            return "winner and loser are one file: a tie"
        fault = wrong_text(line["prompt"], "prompt") or fault_of_files(
            exported, {name: line[name] for name in _PATHS}
        )
        if fault is None:
            size = size_of(exported.read(line["img_path_win"]))
            if size != (line["width"], line["height"]):
                return f"width and height are not those of the winner, {size}"
        return fault
