"""Checks that the parts of a plan fit together; an error names the nearest right name."""

import json
import shlex
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.conditions import PICTURES
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.stage import Stage

_MAX_CANDIDATES = 10_000
_ENDING = {
    column.name
    for column in (
        c.STATUS,
        c.STAGE,
        c.ERROR_CODE,
        c.ERROR_MESSAGE,
        c.REJECT_REASONS,
        c.FINGERPRINT,
    )
}
"""Columns that say how a row ended; no stage writes them."""


def check_row(row: Mapping[str, Any]) -> None:
    """Checks the defaults of a plan's rows.

    Raises:
        ValueError: `candidates` or `edits` are out of range, or a value is not plain.
    """
    candidates: Any = row.get("candidates", 1)
    is_number = isinstance(candidates, int) and not isinstance(candidates, bool)
    if not is_number or not 1 <= candidates <= _MAX_CANDIDATES:
        raise ValueError(
            f"row.candidates = {candidates!r}: a whole number from 1 to {_MAX_CANDIDATES}"
        )
    edits: Any = row.get("edits", [{}])
    if not isinstance(edits, list) or not edits or not all(isinstance(e, dict) for e in edits):
        raise ValueError(f"row.edits = {edits!r}: a list of tables of columns, at least one")
    for name, value in row.items():
        if not _is_plain(value):
            raise ValueError(f"row.{name} = {value!r}: write texts, numbers, true or false")


def _is_plain(value: Any) -> bool:
    """Tells whether JSON holds a value as it is: TOML also has dates, infinities and NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def check_names(stages: Sequence[Stage]) -> None:
    """Checks that names are unique, and that a plan fetches once and stores at most once.

    Raises:
        ValueError: a name occurs twice, or a second stage fetches or stores.
    """
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two stages are named {name!r}: give one of them another name")
    for kind in ("fetch", "store"):
        named = [stage.name for stage in stages if stage.operator.kind == kind]
        if len(named) > 1:
            raise ValueError(
                f"stages {named[0]!r} and {named[1]!r} both {kind}: a plan has one such stage"
            )


def check_groups(stages: Sequence[Stage], groups: Mapping[str, Placement]) -> None:
    """Checks that the stages of a group stand together, and that placed groups exist.

    Raises:
        ValueError: a group is split, or no stage is in it.
    """
    order = [stage.group for stage in stages]
    starts = [order[0], *(b for a, b in pairwise(order) if a != b)]
    for group in starts:
        if starts.count(group) > 1:
            raise ValueError(f"group {group!r} is split: the stages of a group stand together")
    for group in groups:
        if group not in starts:
            raise ValueError(f"no stage is in group {group!r}: {near_miss(group, starts)}")


def check_columns(stages: Sequence[Stage]) -> None:
    """Checks that each column has one writer and one type, and live objects stay in their actor.

    Raises:
        ValueError: naming the stages and the column.
    """
    types: dict[str, Column] = {}
    writers: dict[str, Stage] = {}
    local: dict[str, str] = {}
    for stage in stages:
        for column in (*stage.inputs, *stage.optional):
            if local.get(column.name, stage.group) != stage.group:
                raise ValueError(
                    f"stage {stage.name!r} reads {column.name!r}, which never leaves the actor "
                    f"that made it: put it into group {local[column.name]!r}"
                )
        _check_choice(stage, writers)
        _check_one_source(stage, writers)
        for column in stage.outputs:
            _check_writer(stage, column, writers)
            writers[column.name] = stage
            if column.scope == "group":
                local[column.name] = stage.group
        for column in (*stage.inputs, *stage.optional, *stage.outputs):
            first = types.setdefault(column.name, column)
            if first.type != column.type:
                raise ValueError(
                    f"stage {stage.name!r} takes column {column.name!r} for {column.type}, and it "
                    f"is {first.type}"
                )


def _check_choice(stage: Stage, writers: Mapping[str, Stage]) -> None:
    """Checks that a row's choice is known when it is planned: its key goes by it."""
    for column in stage.operator.choice_columns:
        name = stage.read_as(column.name)
        if name in writers:
            raise ValueError(
                f"stage {stage.name!r} takes a row's choice from {name!r}, which stage "
                f"{writers[name].name!r} writes: a choice is a column of the input"
            )


def _check_one_source(stage: Stage, writers: Mapping[str, Stage]) -> None:
    """Checks that a stage and those before it in its actor work on one picture.

    An edit on the inversion of another picture, or measured by another edit's mask, means nothing.
    """
    own = _source_of(stage)
    for inverted in sorted(_inverted_sources(stage, writers)):
        if own is not None and inverted != own:
            raise ValueError(
                f"stage {stage.name!r} edits {own!r} by an inversion of {inverted!r}: invert "
                f"{own!r}, with reads = {{ source_image = {own!r} }}"
            )
    names = [stage.read_as(c.EDITED_IMAGE.name), stage.read_as(c.EDITABLE_MASK_IMAGE.name)]
    edits = [writers[name].name for name in names if name in stage.read_names and name in writers]
    if len(set(edits)) > 1:
        raise ValueError(
            f"stage {stage.name!r} reads the edited image of {edits[0]!r} and the editable mask of "
            f"{edits[1]!r}: give {edits[1]!r} a prefix, so that its mask is not taken for the "
            f"other's, or name in {stage.name!r}'s reads what belongs together"
        )


def _source_of(stage: Stage) -> str | None:
    columns = (*stage.operator.inputs, *stage.operator.optional)
    return stage.read_as(c.SOURCE_IMAGE.name) if c.SOURCE_IMAGE in columns else None


def _inverted_sources(stage: Stage, writers: Mapping[str, Stage]) -> set[str]:
    """Returns the pictures of the inversions and fits that a stage reads."""
    sources: set[str] = set()
    for column in (*stage.inputs, *stage.optional):
        if column.scope == "group" and column.name in writers:
            writer = writers[column.name]
            own = _source_of(writer)
            sources |= {own} if own is not None else _inverted_sources(writer, writers)
    return sources


def _check_writer(stage: Stage, column: Column, writers: Mapping[str, Stage]) -> None:
    if column.name in c.RUNNER_COLUMNS | _ENDING:
        raise ValueError(f"stage {stage.name!r} writes {column.name!r}, which the runner sets")
    if column.name in writers:
        raise ValueError(
            f"stages {writers[column.name].name!r} and {stage.name!r} both write column "
            f"{column.name!r}: give one of them a prefix, such as prefix = {stage.name + '_'!r}"
        )


def check_fetched(stages: Sequence[Stage]) -> None:
    """Checks that pictures which stages need are fetched or written by a stage.

    Raises:
        ValueError: naming the stage and the condition.
    """
    written = {name for stage in stages for name in stage.output_names}
    for stage in stages:
        for picture in PICTURES.values():
            if picture.column.name in set(stage.input_names) - written:
                raise ValueError(
                    f"stage {stage.name!r} reads {picture.column.name!r}, which no stage writes: "
                    f'add "{picture.name}" to `conditions` of the stage that fetches'
                )


def way_to_give(column: Column, given: Sequence[str]) -> str:
    """Words the end of an error about a column that a stage lacks.

    Args:
        column: column that the stage reads.
        given: names of the input's columns.
    """
    if column.scope != "manifest":
        return "put a stage that writes it before that stage"
    name, others = column.name.removeprefix("in_"), [name for name in given if name != "source_uri"]
    if close := get_close_matches(name, others, n=1):
        return f"did you mean {close[0]!r}? --map {shlex.quote(f'{close[0]}={name}')} renames it"
    known = f", which has {', '.join(others)}" if others else ""
    return f"--set row.{name}=... gives it to every row, --map NAME={name} is of the input{known}"


def check_condition_columns(
    stages: Sequence[Stage], columns: Set[str], given: Sequence[str]
) -> None:
    """Checks that the input has the pictures that stages need.

    Args:
        stages: stages of the plan.
        columns: columns of the input, under the plan's names.
        given: columns of the input, under its own.

    Raises:
        UsageError: naming the stage and the column of the input.
    """
    fetched = {name for stage in stages for name in stage.input_names}
    for stage in stages:
        for picture in PICTURES.values():
            is_needed = picture.column.name in stage.input_names and picture.input.name in fetched
            if is_needed and picture.input.name not in columns:
                raise UsageError(
                    f"stage {stage.name!r} reads {picture.column.name!r}: give the input a column "
                    f"{picture.table_name!r}, or the plan an earlier stage that writes it: "
                    f"{way_to_give(picture.input, given)}"
                )


def check_candidates(row: Mapping[str, Any], stages: Sequence[Stage]) -> None:
    """Checks that several candidates of one edit can differ.

    Raises:
        ValueError: no stage reads the seed, or the candidate's number.
    """
    candidates = row.get("candidates", 1)
    if candidates > 1 and not draws(stages):
        raise ValueError(
            f"row.candidates = {candidates}: no stage draws from the seed or for each candidate: "
            "all of them would be equal"
        )


def draws(stages: Sequence[Stage]) -> bool:
    """Tells whether candidates of a row differ."""
    read = {name for stage in stages for name in stage.read_names}
    return not read.isdisjoint({c.SEED.name, c.CANDIDATE.name})


def check_policy(policy: Policy, stages: Sequence[Stage]) -> None:
    """Checks that the policy reads scores that stages write: numbers, or yes and no.

    Raises:
        ValueError: naming the score and the nearest one there is.
    """
    written = [column for stage in stages for column in stage.outputs]
    scores = [column.name for column in written if _is_score(column.type)]
    for name in policy.scores:
        if name not in scores:
            raise ValueError(
                f"policy: no stage writes the score {name!r}: {near_miss(name, scores)}"
            )


def _is_score(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def check_planned_names(planned: Mapping[str, str]) -> None:
    """Checks that no two columns of the input have one name in the plan.

    Args:
        planned: names in the plan, by the names in the input.

    Raises:
        UsageError: naming the columns.
    """
    first: dict[str, str] = {}
    for name, renamed in planned.items():
        if renamed in first:
            raise UsageError(
                f"columns {first[renamed]!r} and {name!r} of the input are both {renamed!r} in the "
                "plan: --map NAME=OTHER renames one"
            )
        first[renamed] = name
