"""rl as unirl: the JSON lines that UniRL reads."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, size_of, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.text_files import BySplit, JsonLines

_MEDIA = {"modality", "role", "uri"}


class RlUnirl(Format):
    """`train.jsonl` with prompt, media (modality, role, uri, and nothing else) and metadata."""

    makes: ClassVar[Kind] = "prompts"
    takes_references: ClassVar[bool] = True

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lines = BySplit(lambda split: JsonLines(self.destination, f"{split}.jsonl"))

    def add(self, example: Example) -> None:
        """Writes the pictures that an editor is shown, and adds a line."""
        shown = {f"images/{example.name}{self.suffix}": example.source}
        for number, reference in enumerate(example.references):
            shown[f"images/{example.name}_{number + 1}{self.suffix}"] = reference
        for path, picture in shown.items():
            self.destination.write(path, picture.data)
        media = [{"modality": "image", "role": "condition", "uri": path} for path in shown]
        metadata = {"source": "overpaint", "global_id": example.name}
        more = {"edit_type": example.edit_type, "target_prompt": example.cells["edited_prompt"]}
        line = {"prompt": example.caption, "media": media, "metadata": {**metadata, **more}}
        self._lines.of(example.split).add(line)

    def close(self) -> None:
        """Writes the lines."""
        self._lines.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "UniRL: `data_path: FOLDER/train.jsonl` of its MultimodalRLDataSource; URIs are "
            "relative to that file."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each line."""
        for split in exported.splits:
            lines = exported.json_lines(f"{split}.jsonl")
            yield from exported.each(partial(cls._one, exported, split, line) for line in lines)

    @classmethod
    def _one(cls, exported: Exported, split: str, line: Any) -> Finding:
        media = line.get("media") if isinstance(line, dict) else None
        if not isinstance(media, list) or not media:
            return Fault(f"{split}.jsonl: a line has no media: it would train without a source")
        if not all(isinstance(one, dict) and set(one) == _MEDIA for one in media):
            return Fault(
                f"{split}.jsonl: media may have modality, role and uri and nothing else: the "
                "trainer refuses the file"
            )
        name = str(media[0]["uri"]).rpartition("/")[2].rpartition(".")[0]
        fault = wrong_text(line.get("prompt"), "prompt")
        if fault is None and any(size_of(exported.read(one["uri"])) is None for one in media):
            fault = "a picture is missing, or no picture"
        return finding(fault, split, name)
