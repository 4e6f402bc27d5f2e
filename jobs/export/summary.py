"""Content of `export.json`: what an export holds, what is left out and why, and its rights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.index import Index
from overpaint.jobs.export.rank import Rank
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.runs import FinishedRun

REASONS = {
    "rejected": "rejected by a stage or by the policy; `--all` exports those that have pictures",
    "not_best": "another candidate of the request has a better rank",
    "not_worst": "another candidate of the request has a worse rank",
    "same_request": "another candidate of the same request stands for it",
    "no_rank": "without a rank: the score could not be measured",
    "margin": "the lead over the next candidate is below `--min-margin`",
    "tie": "as good as the best candidate",
    "no_winner": "no accepted candidate of the request has a rank",
    "no_loser": "the request has no second candidate with a rank",
    "better_but_rejected": "of a better rank than the winner, but rejected",
    "duplicate": "equal to an earlier example: source pixels, edit and words",
    "no_caption": "without an instruction",
    "no_inverse": "without an inverse instruction",
    "references": "shown further pictures, for which the format has no place",
    "size": "source and edit are of unequal sizes; `--fit crop` cuts them to what they share",
    "no_source": "the source has no address that can be read",
}
"""Reasons for which candidates are in no example; others are error codes of sources."""
MASK = "white (255) may change, black (0) stays; all white where the whole image may change"
_THRESHOLDS = 9
_MOST_RIGHTS = 20


@dataclass(slots=True)
class Tally:
    """Counts of the examples that were written, in bounded memory.

    Attributes:
        rights: columns that say whose a picture is.
        examples: examples by edit type and split.
        terms: examples by column of rights and value.
        left_out: candidates that became no example, by reason.
    """

    rights: Sequence[str]
    examples: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    terms: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    left_out: Counter[str] = field(default_factory=Counter[str])

    def add(self, example: Example) -> None:
        """Counts an example."""
        self.examples[example.edit_type, example.split] += 1
        for name in self.rights:
            values = self.terms.setdefault(name, Counter())
            value = example.cells.get(name) or "not stated"
            is_new = value not in values and len(values) >= _MOST_RIGHTS
            values["others" if is_new else value] += 1

    def by_split(self, splits: Sequence[str]) -> dict[str, int]:
        """Returns the number of examples of each split."""
        return {
            split: sum(n for (_, name), n in self.examples.items() if name == split)
            for split in splits
        }


def facts_of(
    request: ExportRequest,
    runs: Sequence[FinishedRun],
    index: Index,
    tally: Tally,
    *,
    kind: str,
    rank: Rank | None,
    num_sources: int,
    num_groups: int,
) -> dict[str, Any]:
    """Returns the content of `export.json`: equal exports have equal ones.

    Args:
        request: what was asked for.
        runs: runs that were exported.
        index: their candidates.
        tally: what was written.
        kind: what the export is made of.
        rank: what ranks candidates; None for nothing.
        num_sources: distinct sources of all candidates.
        num_groups: groups of near-duplicates among them.
    """
    splits = tally.by_split(list(request.splits))
    return {
        "overpaint": version("overpaint"),
        "format": request.format,
        "like": request.like,
        "kind": kind,
        "examples": sum(splits.values()),
        "splits": splits,
        "image_format": request.image_format,
        "reverse": request.reverse,
        "policy": {
            "choice": request.choice,
            "rank_by": rank.column if rank else None,
            **({"order": rank.order} if rank and rank.order == "lowest" else {}),
            "min_margin": request.min_margin,
            "fit": request.fit,
            "caption": request.caption,
            "background": request.background,
            "near_bits": request.near_bits,
            "split": request.split,
        },
        "mask": MASK,
        "sources": {"distinct": num_sources, "groups": num_groups},
        "runs": [_run(run) for run in runs],
        "left_out": {name: n for name, n in sorted(tally.left_out.items()) if n},
        "edit_types": _edit_types(index, tally),
        "survival": _survival(index, rank),
        "rights": {name: dict(sorted(values.items())) for name, values in tally.terms.items()},
    }


def _run(run: FinishedRun) -> dict[str, Any]:
    record = run.record
    stages: list[dict[str, Any]] = record.recipe.get("stage") or []
    return {
        "recipe": record.name,
        "folder": run.folder.storage.uri.rsplit("/", 1)[-1],
        "fingerprint": record.fingerprint,
        "overpaint": record.versions.get("overpaint"),
        **run.ledger(),
        "policy": _stated(record.recipe.get("policy") or {}),
        "terms": record.recipe.get("terms"),
        "models": [one for stage in stages for one in _models(stage, record.revisions)],
    }


def _stated(value: Any) -> Any:
    """Returns a JSON value without what is null or off in it."""
    if not isinstance(value, Mapping):
        return value
    return {k: _stated(v) for k, v in value.items() if v is not None and v is not False}


def _models(
    stage: Mapping[str, Any], revisions: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yields what is known of a stage's models: one, one for each choice of rows, or none."""
    name = stage.get("name") or stage.get("operator") or ""
    known = dict(revisions.get(name, {}))
    choices: Mapping[str, Mapping[str, Any]] = stage.get("choices") or {}
    for choice, settings in choices.items():
        own = {k: v for k, v in known.items() if k == choice}
        yield {"stage": name, **_model({**stage, **settings}), "revisions": own}
    if not choices and (model := _model(stage)):
        yield {"stage": name, **model, "revisions": known}


def _model(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a stage says of its model; empty where the stage has none."""
    wanted = ("operator", "method", "checkpoint", "endpoint", "terms", "license")
    known = {name: stage[name] for name in wanted if stage.get(name)}
    if stage.get("endpoint"):
        known["model"] = (stage.get("request") or {}).get("model")
    return known if "checkpoint" in known or "endpoint" in known else {}


def _edit_types(index: Index, tally: Tally) -> dict[str, dict[str, Any]]:
    """Returns planned, accepted and exported rows by edit type, and examples by split."""
    names = sorted({name for name, _ in index.counts})
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        planned = sum(n for (each, _), n in index.counts.items() if each == name)
        examples = {split: n for (each, split), n in tally.examples.items() if each == name}
        found[name or "other"] = {
            "planned": planned,
            "accepted": index.counts[name, "accepted"],
            "exported": sum(examples.values()),
            "by_split": dict(sorted(examples.items())),
        }
    return found


def _survival(index: Index, rank: Rank | None) -> dict[str, Any] | None:
    """Returns the share of each edit type's ranked rows that thresholds of the rank would keep."""
    ranks = index.rows["rank"]
    known = ranks[~np.isnan(ranks)]
    if rank is None or not len(known):
        return None
    quantiles = np.linspace(0, 1, _THRESHOLDS + 2)[1:-1]
    thresholds = np.unique(np.quantile(known, quantiles).round(4))
    types: dict[str, list[float]] = {}
    for number, name in enumerate(index.edit_types):
        own = ranks[(index.rows["edit_type"] == number) & ~np.isnan(ranks)]
        if len(own):
            shares = [round(float((own >= least).mean()), 4) for least in thresholds]
            types[name or "other"] = shares
    return {
        "column": rank.column,
        "thresholds": (rank.sign * thresholds).tolist(),
        "kept": dict(sorted(types.items())),
    }
