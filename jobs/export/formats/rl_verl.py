"""rl as verl: the table from which verl-omni trains editors."""

import io
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, size_of
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.messages import MESSAGES, asked, fault_of_messages
from overpaint.jobs.export.tables import Shards, text
from overpaint.jobs.export.text_files import BySplit
from PIL import Image, ImageOps

SIDE_PX = 512
_IMAGES = pa.list_(pa.struct([pa.field("bytes", pa.binary())]))
_REWARD = pa.struct([text("style"), text("ground_truth")])
_EXTRA = pa.struct(
    [text("split"), pa.field("index", pa.int64()), text("instruction"), text("image")]
)
_SCHEMA = pa.schema(
    [
        text("data_source"),
        pa.field("prompt", MESSAGES),
        pa.field("negative_prompt", MESSAGES),
        text("ability"),
        pa.field("images", _IMAGES),
        pa.field("reward_model", _REWARD),
        pa.field("extra_info", _EXTRA),
    ]
)


class RlVerl(Format):
    """Parquet with messages, and the source in a white square of 512 px."""

    makes: ClassVar[Kind] = "prompts"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._numbers: dict[str, int] = {}
        self._shards = BySplit(
            lambda split: Shards(self.destination, f"{split}-{{number:05d}}.parquet", _SCHEMA)
        )

    def add(self, example: Example) -> None:
        """Adds a row to the table of the example's split."""
        number = self._numbers.get(example.split, 0)
        self._numbers[example.split] = number + 1
        picture = _square(example.source.data)
        extra = {"split": example.split, "index": number}
        words = {"instruction": example.caption, "image": f"{example.name}.png"}
        row = {
            "data_source": "image_edit",
            "prompt": asked(example.caption),
            "negative_prompt": asked(" "),
            "ability": "image_edit",
            "images": [{"bytes": picture}],
            "reward_model": {"style": "model", "ground_truth": example.truth},
            "extra_info": {**extra, **words},
        }
        self._shards.of(example.split).add(row, len(picture))

    def close(self) -> None:
        """Writes the last file of each split."""
        self._shards.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "verl-omni: `data.train_files=FOLDER/train-00000.parquet` (all of them). The system "
            "message is Overpaint's own; `ground_truth` is the target prompt, or the instruction "
            "where there is none."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each row."""
        for split in exported.splits:
            for path in exported.names(""):
                if path.startswith(f"{split}-") and path.endswith(".parquet"):
                    yield from cls._table(exported, split, path)

    @classmethod
    def _table(cls, exported: Exported, split: str, path: str) -> Iterator[Finding]:
        schema = exported.schema(path)
        wrong = [
            Fault(f"{path}: there is no column {own.name} of type {own.type}")
            for own in _SCHEMA
            if own.name not in schema.names or schema.field(own.name).type != own.type
        ]
        yield from wrong
        for rows in () if wrong else exported.tables(path, _SCHEMA.names):
            for row in rows:
                name = ((row["extra_info"] or {}).get("image") or "").rpartition(".")[0]
                pictures = row["images"] or []
                fault = fault_of_messages(row["prompt"])
                if fault is None and len(pictures) != 1:
                    fault = f"there are {len(pictures)} pictures for one <image>"
                if fault is None and size_of(pictures[0]["bytes"]) is None:
                    fault = "the picture is missing, or no picture"
                yield finding(fault, split, name)


def _square(data: bytes) -> bytes:
    """Returns a picture in the middle of a white square, as a PNG."""
    with Image.open(io.BytesIO(data)) as image:
        square = ImageOps.pad(
            image.convert("RGB"), (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, color="white"
        )
    out = io.BytesIO()
    square.save(out, "PNG")
    return out.getvalue()
