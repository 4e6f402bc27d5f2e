"""Exports of finished runs: three passes - manifests, sources, pictures - and a card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from overpaint.jobs.export.card import card
from overpaint.jobs.export.choice import NONE, Chosen, Numbers, choose, requests_of
from overpaint.jobs.export.destination import (
    EXPORT,
    MARKER,
    Destination,
    open_destination,
    write_json,
)
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.examples import Making, make_examples
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.formats import find_format
from overpaint.jobs.export.index import Candidates, Index, read_index
from overpaint.jobs.export.rank import Rank, find_rank
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.rows import carried_fields, check_caption, rights_columns
from overpaint.jobs.export.runs import FinishedRun, RowReader
from overpaint.jobs.export.sources import Sources, read_sources
from overpaint.jobs.export.splits import assign_splits, linked
from overpaint.jobs.export.summary import Tally, facts_of
from overpaint.jobs.export.tables import Shards, text
from overpaint.pipeline.errors import UsageError

CARD = "README.md"
ROWS = "rows.parquet"


@dataclass(frozen=True, slots=True)
class _Plan:
    """An export whose pictures are still to be read.

    Attributes:
        edited: all rows that have an edited image.
        index: those among them that may be in an example.
    """

    request: ExportRequest
    layout: type[Format]
    runs: Sequence[FinishedRun]
    rank: Rank | None
    edited: Index
    index: Index
    sources: Sources
    chosen: Chosen
    splits: Sequence[str]
    num_groups: int


def export(outputs: Sequence[str], destination: str, request: ExportRequest) -> dict[str, Any]:
    """Exports finished runs as a data set that trainers load.

    Args:
        outputs: run folders; their rows come in this order.
        destination: folder of the export: empty, absent, or what a killed export left.
        request: format, choice among candidates, splits, pictures.

    Returns:
        The content of `export.json`, which is written last.

    Raises:
        UsageError: an option does not fit the format or the runs, a run is not finished, the
            destination is not empty, or nothing would be exported.

    Example:
        >>> export(["demo-run"], "pairs", ExportRequest(format="ip2p"))["examples"]
        48
    """
    layout = find_format(request.format, request.like)
    runs = [FinishedRun.at(output) for output in outputs]
    rank = _check(layout, runs, request)
    with open_destination(destination) as opened:
        plan = _plan(layout, runs, rank, request)
        facts = _write(plan, opened)
        storage = opened.storage
    if not facts["examples"]:
        storage.remove_tree("")
        counts = ", ".join(f"{name} {n}" for name, n in facts["left_out"].items())
        reason = f"left out are {counts}" if counts else "no row has an edited image"
        raise UsageError(f"nothing to export: {reason}")
    storage.write(CARD, card(facts, layout).encode())
    write_json(storage, EXPORT, facts)
    storage.remove([MARKER])
    return facts


def _check(
    layout: type[Format], runs: Sequence[FinishedRun], request: ExportRequest
) -> Rank | None:
    """Checks that options, format and runs fit each other; returns what ranks candidates."""
    name = f"--format {request.format}"
    if request.image_format not in layout.image_formats:
        wanted = ", ".join(layout.image_formats)
        raise UsageError(f"{name}: its pictures are {wanted}, not {request.image_format}")
    if request.best and request.all_rows and layout.makes == "pairs":
        raise UsageError("--best and --all exclude each other: --best is among accepted rows")
    if request.reverse and layout.makes != "pairs":
        raise UsageError(f"--reverse does not belong to {name}, which has no pairs to turn round")
    ranks = layout.makes == "preferences" or (layout.makes == "pairs" and request.best)
    if request.best and layout.makes == "prompts":
        raise UsageError(f"--best does not belong to {name}, which exports requests alone")
    if request.min_margin is not None and not ranks:
        raise UsageError(f"--min-margin does not belong to {name} without --best")
    lacking = [split for split in layout.needs_splits if split not in request.splits]
    if lacking:
        raise UsageError(
            f"{name} --like {request.like}: its trainer reads {' and '.join(layout.needs_splits)}: "
            "give --split train=0.95,test=0.05"
        )
    check_caption(runs, request)
    rank = find_rank(runs, request)
    if ranks and rank is None:
        raise UsageError(
            f"{name}: candidates are ranked by a score that every run has, lmm_score or "
            "clip_sim_dir: name another with --rank-by"
        )
    return rank


def _plan(
    layout: type[Format], runs: Sequence[FinishedRun], rank: Rank | None, request: ExportRequest
) -> _Plan:
    """Chooses the examples and their splits, from manifests and sources."""
    reader, edited = RowReader(runs), read_index(runs, request, rank)
    is_any = request.all_rows or layout.makes == "preferences"
    allowed = edited.rows if is_any else edited.rows[edited.rows["accepted"]]
    index = replace(edited, rows=_without_repeats(allowed))
    sources = read_sources(index, reader, request.colour)
    requests = requests_of(index.rows, sources.of)
    requests[sources.of < 0] = NONE
    chosen = choose(index.rows, requests, layout.makes, request)
    chosen.left_out["rejected"] += len(edited.rows) - len(allowed)
    chosen.left_out["duplicate"] += len(allowed) - len(index.rows)
    chosen.left_out.update(sources.errors)
    chosen.keep(_first_of_each(index, sources.of, chosen, layout.makes), "duplicate")
    number, num_groups = assign_splits(
        sources.pixels,
        sources.hashes,
        request.splits,
        request.near_bits,
        linked(index.rows, sources.of),
    )
    names = list(request.splits)
    splits = [names[split] for split in number[sources.of[chosen.winners]]]
    return _Plan(request, layout, runs, rank, edited, index, sources, chosen, splits, num_groups)


def _without_repeats(rows: Candidates) -> Candidates:
    """Returns candidates without those whose key an earlier one has."""
    _, first = np.unique(rows["key"], return_index=True)
    return rows[np.sort(first)]


def _first_of_each(index: Index, sources: Numbers, chosen: Chosen, kind: str) -> Any:
    """Tells of each example whether no earlier one has the same source, words and edits."""
    rows = index.rows

    def numbers(name: str, places: Numbers) -> Numbers:
        return np.unique(rows[name], return_inverse=True)[1][places]

    columns = [sources[chosen.winners], numbers("caption", chosen.winners)]
    if kind != "prompts":
        columns.append(numbers("edited", chosen.winners))
    if kind == "preferences":
        columns.append(numbers("edited", chosen.losers))
    kept = np.zeros(len(chosen.winners), bool)
    if len(kept):
        kept[np.unique(np.stack(columns), axis=1, return_index=True)[1]] = True
    return kept


def _write(plan: _Plan, opened: Destination) -> dict[str, Any]:
    """Writes the examples, and the rows behind them."""
    request, fields = plan.request, carried_fields(plan.runs)
    layout = plan.layout(Target(opened, f".{request.image_format}", fields))
    rows = Shards(opened, ROWS, pa.schema([text("name"), text("split"), *fields]))
    tally = Tally(rights_columns(plan.runs), left_out=plan.chosen.left_out)
    for example in _examples(plan, fields):
        if isinstance(example, str):
            tally.left_out[example] += 1
            continue
        layout.add(example)
        rows.add({"name": example.name, "split": example.split, **example.cells}, 0)
        tally.add(example)
    layout.close()
    rows.close()
    return facts_of(
        request,
        plan.runs,
        plan.edited,
        tally,
        kind=plan.layout.makes,
        rank=plan.rank,
        num_sources=len(plan.sources.pixels),
        num_groups=plan.num_groups,
    )


def _examples(plan: _Plan, fields: Sequence["pa.Field[Any]"]) -> Iterator[Example | str]:
    layout = plan.layout
    making = Making(plan.request, layout.makes, layout.takes_references, plan.rank, fields)
    reader = RowReader(plan.runs)
    yield from make_examples(plan.index, plan.chosen, plan.splits, reader, making)
