"""preference as editreward: the JSON list from which EditReward's judges are trained."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, wrong_text
from overpaint.jobs.export.format import Target
from overpaint.jobs.export.preference import (
    Preference,
    fault_of_files,
    fault_of_scores,
    loser_of,
    name_of,
)
from overpaint.jobs.export.text_files import BySplit, JsonList

_PATHS = ("path_src", "path1", "path2")
_SCORES = ("model1_overall_score", "model2_overall_score")


class PreferenceEditreward(Preference):
    """A list with `path_src`, `path1` (the better edit), `path2`, `prompt` and both scores."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lists = BySplit(lambda split: JsonList(self.destination, f"{split}.json"))

    def add(self, example: Example) -> None:
        """Writes the pictures, and adds an object; the rank is the score of all dimensions."""
        winner, loser = example.winner, loser_of(example)
        paths = dict(zip(_PATHS, self.write_pictures(example), strict=True))
        models = {"model1": winner.checkpoint, "model2": loser.checkpoint}
        dimensions = {"model1_dim1_score": winner.rank, "model2_dim1_score": loser.rank}
        scores = dict(zip(_SCORES, (winner.rank, loser.rank), strict=True))
        value = {"prompt": example.caption, **paths, **models, **dimensions, **scores}
        self._lists.of(example.split).add(value)

    def close(self) -> None:
        """Writes the lists."""
        self._lists.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that name the setting of the trainer."""
        del facts
        return (
            "EditReward: `train.json` in its list of training files, started in this folder: "
            "paths are relative to it. Scores are the rank, for the one dimension and overall."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what the trainer's data set makes of each object."""
        for split in exported.splits:
            found = exported.json_list(f"{split}.json")
            if found is None:
                yield Fault(f"{split}.json: there is no JSON list")
                continue
            yield from exported.each(partial(cls._one, exported, split, one) for one in found)

    @classmethod
    def _one(cls, exported: Exported, split: str, one: Any) -> Finding:
        if not isinstance(one, dict) or not {*_PATHS, *_SCORES, "prompt"} <= one.keys():
            wanted = ", ".join((*_PATHS, *_SCORES, "prompt"))
            return Fault(f"{split}.json: an entry lacks one of {wanted}: the trainer skips it")
        fault = (
            wrong_text(one["prompt"], "prompt")
            or fault_of_scores(one[_SCORES[0]], one[_SCORES[1]], _SCORES)
            or fault_of_files(exported, {name: one[name] for name in _PATHS})
        )
        return finding(fault, split, name_of(one["path1"], one["path2"]))
