"""Batch sizes that a recipe leaves open: those of the run in the folder, or found by a probe.

A run keeps the sizes that it began with, also where it goes on or is updated on other machines.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from overpaint.cluster.worker.batch_probe import BatchProbe
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.run import Run

Probe = Callable[[Plan, str, Sequence[Row]], Mapping[str, BatchProbe]]
"""Function that finds the batch sizes of the stages of a group with some rows."""

_NUM_ROWS = 4
"""Rows of the input that a probe may use: one that a stage can do is enough."""


def has_open_sizes(plan: Plan) -> bool:
    """Tells whether a recipe leaves a batch size open."""
    return any(stage.finds_batch_size for stage in plan.stages)


def with_recorded_sizes(plan: Plan, folder: RunFolder) -> Plan:
    """Returns a plan with the open batch sizes that the run in a folder has for its stages."""
    record = RunRecord.find(folder) if has_open_sizes(plan) else None
    stages: list[dict[str, Any]] = record.recipe.get("stage", []) if record else []
    return _with_sizes(plan, dict(_recorded(plan, stages)))


def with_found_sizes(
    plan: Plan,
    run_input: Input,
    folder: RunFolder,
    probe: Probe,
    said: Callable[[str], None],
) -> Plan:
    """Returns a plan whose open batch sizes a probe has found.

    Args:
        plan: checked plan.
        run_input: its input, of which some rows are used.
        folder: folder of the run; nothing is written there.
        probe: finds the sizes of a group.
        said: shows a sentence on what was found.
    """
    run = Run(plan, folder.storage.uri, run_input.base_uri)
    rows = [{**row, **run.constants} for row in islice(_rows(plan, run_input), _NUM_ROWS)]
    groups = dict.fromkeys(stage.group for stage in plan.stages if stage.finds_batch_size)
    found: dict[str, int] = {}
    for group in groups:
        for name, one in probe(plan, group, rows).items():
            said(f"stage {name!r}: {one}")
            found[name] = one.batch_size
    return _with_sizes(plan, found)


def _rows(plan: Plan, run_input: Input) -> Iterable[Row]:
    for table, _ in plan_parts(plan, run_input):
        yield from table.slice(0, _NUM_ROWS).to_pylist()


def _recorded(plan: Plan, stages: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, int]]:
    """Yields name and batch size of recorded stages that a plan has with the same operator."""
    open_stages = {stage.name: stage for stage in plan.stages if stage.finds_batch_size}
    for recorded in stages:
        stage = open_stages.get(recorded["name"])
        if stage is not None and recorded["operator"] == OPERATORS.name_of(type(stage.operator)):
            yield stage.name, recorded["batch_size"]


def _with_sizes(plan: Plan, sizes: Mapping[str, int]) -> Plan:
    if not sizes:
        return plan
    try:
        stages = tuple(
            stage.with_batch_size(sizes[stage.name]) if stage.name in sizes else stage
            for stage in plan.stages
        )
    except ValueError as error:
        raise UsageError(f"batch_size = 'auto': {error}") from error
    return plan.model_copy(update={"stages": stages})
