"""preference as dpo: the table that diffusers' Diffusion-DPO scripts and MaPO read."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit, wrong_text
from overpaint.jobs.export.format import Target
from overpaint.jobs.export.preference import Preference, fault_of_scores, loser_of
from overpaint.jobs.export.tables import Shards, text, with_features
from overpaint.jobs.export.text_files import BySplit

_WORDS = ("jpg_0", "jpg_1")


class PreferenceDpo(Preference):
    """Parquet with `jpg_0`, `jpg_1`, `label_0`, `label_1` and `caption`; ties are left out."""

    own: ClassVar[tuple["pa.Field[Any]", ...]] = (
        pa.field("jpg_0", pa.binary()),
        pa.field("jpg_1", pa.binary()),
        pa.field("label_0", pa.float64()),
        pa.field("label_1", pa.float64()),
        text("caption"),
    )
    data_files: ClassVar[str | None] = "data/{split}-*.parquet"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        schema = with_features([*self.own, text("name"), *self.fields])
        self._shards = BySplit(
            lambda split: Shards(self.destination, f"data/{split}-{{number:05d}}.parquet", schema)
        )

    def add(self, example: Example) -> None:
        """Adds a row; the winner is `jpg_0`."""
        winner, loser = example.winner.picture.data, loser_of(example).picture.data
        labels = {"label_0": 1.0, "label_1": 0.0}
        own = {"jpg_0": winner, "jpg_1": loser, **labels, "caption": example.caption}
        row = {**example.cells, **own, "name": example.name}
        self._shards.of(example.split).add(row, len(winner) + len(loser))

    def close(self) -> None:
        """Writes the last file of each split."""
        self._shards.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the arguments of the scripts."""
        del facts
        return (
            "diffusers' train_diffusion_dpo_sdxl.py and MaPO: `--dataset_name FOLDER "
            "--dataset_split_name train`. They see no source image: `jpg_0` (the winner, "
            "`label_0` 1) and `jpg_1` are learned as pictures of `caption`."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the scripts make of each row."""
        for split in exported.splits:
            for path in exported.storage.list("data"):
                if path.startswith(f"data/{split}-") and path.endswith(".parquet"):
                    yield from cls._table(exported, split, path)

    @classmethod
    def _table(cls, exported: Exported, split: str, path: str) -> Iterator[Finding]:
        schema = exported.schema(path)
        wrong = [
            Fault(f"{path}: there is no column {own.name} of type {own.type}")
            for own in cls.own
            if own.name not in schema.names or schema.field(own.name).type != own.type
        ]
        yield from wrong
        columns = [own.name for own in cls.own] + (["name"] if "name" in schema.names else [])
        for rows in () if wrong else exported.tables(path, columns):
            for row in rows:
                name = row.get("name") or ""
                fault = (
                    wrong_text(row["caption"], "caption")
                    or _fault_of_labels(row)
                    or unfit(row["jpg_0"], row["jpg_1"], words=_WORDS)
                )
                yield finding(fault, split, name)


def _fault_of_labels(row: Mapping[str, Any]) -> str | None:
    labels = (row["label_0"], row["label_1"])
    if labels in ((1.0, 0.0), (0.0, 1.0)):
        return None
    return fault_of_scores(*labels, ("label_0", "label_1")) or "labels are not 1 and 0"
