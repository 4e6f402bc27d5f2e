"""preference as verl: the table of pairs that verl-omni's offline DPO begins with."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding
from overpaint.jobs.export.format import Target
from overpaint.jobs.export.messages import MESSAGES, asked, fault_of_messages
from overpaint.jobs.export.preference import (
    Preference,
    fault_of_files,
    fault_of_scores,
    loser_of,
    name_of,
)
from overpaint.jobs.export.tables import Shards, text
from overpaint.jobs.export.text_files import BySplit

_SCORES = ("win_score", "lose_score")
_EXTRA = pa.struct([text("raw_prompt"), text("raw_negative_prompt"), text("source_image")])
_REWARD = pa.struct([text("style"), text("ground_truth")])
_SCHEMA = pa.schema(
    [
        text("data_source"),
        pa.field("prompt", MESSAGES),
        pa.field("negative_prompt", MESSAGES),
        text("img_win"),
        text("img_lose"),
        *(pa.field(name, pa.float64()) for name in _SCORES),
        text("uid"),
        pa.field("reward_model", _REWARD),
        pa.field("extra_info", _EXTRA),
    ]
)


class PreferenceVerl(Preference):
    """Parquet with `prompt` as messages, `img_win`, `img_lose` and both scores."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._shards = BySplit(
            lambda split: Shards(self.destination, f"{split}-{{number:05d}}.parquet", _SCHEMA)
        )

    def add(self, example: Example) -> None:
        """Writes the pictures, and adds a row."""
        source, winner, loser = self.write_pictures(example)
        row = {
            "data_source": "image_edit",
            "prompt": asked(example.caption),
            "negative_prompt": asked(" "),
            "img_win": winner,
            "img_lose": loser,
            **dict(zip(_SCORES, (example.winner.rank, loser_of(example).rank), strict=True)),
            "uid": example.name,
            "reward_model": {"style": "model", "ground_truth": example.truth},
            "extra_info": {
                "raw_prompt": example.caption,
                "raw_negative_prompt": "",
                "source_image": source,
            },
        }
        self._shards.of(example.split).add(row, 0)

    def close(self) -> None:
        """Writes the last file of each split."""
        self._shards.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that say what the trainer needs besides."""
        del facts
        return (
            "verl-omni, offline DPO: paths are relative to the table, and the source is "
            "`extra_info.source_image`. Its trainer also wants what only your model can compute, "
            "in the columns img_win_latents, img_lose_latents, prompt_embeds, prompt_embeds_mask "
            "and pooled_prompt_embeds: add them as its prepare_offline_dpo.py does."
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
            yield from exported.each(partial(cls._one, exported, split, row) for row in rows)

    @classmethod
    def _one(cls, exported: Exported, split: str, row: Mapping[str, Any]) -> Finding:
        paths = {
            "source_image": (row["extra_info"] or {}).get("source_image"),
            "img_win": row["img_win"],
            "img_lose": row["img_lose"],
        }
        fault = (
            fault_of_messages(row["prompt"])
            or fault_of_scores(row["win_score"], row["lose_score"], _SCORES)
            or fault_of_files(exported, paths)
        )
        return finding(fault, split, name_of(row["img_win"], row["img_lose"]))
