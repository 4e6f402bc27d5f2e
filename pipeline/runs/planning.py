"""Planning: every row of a run, with its key and seed, written down before anything is edited.

The plan is complete and never shrinks; the remaining tasks are derived from it. Rows of one source
stand together, in the order in which the input first names it. An input is read batch by batch, and
memory holds a few parts of the plan, however many rows there are.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.column_types import TypedColumns, plan_schema
from overpaint.pipeline.runs.expansion import Expander
from overpaint.pipeline.runs.folder import RunFolder, part_path
from overpaint.pipeline.runs.grouping import SourceRuns, sorted_by_source
from overpaint.pipeline.runs.inputs import SOURCE, Input

PART_ROWS = 4096
_WRITERS = 2
_WAITING = 4
"""Parts that may wait to be written: enough for a store's latency, few enough for memory."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Size of a plan.

    Attributes:
        num_rows: rows written.
        num_duplicates: identical rows left out.
        num_parts: parts written.
    """

    num_rows: int
    num_duplicates: int
    num_parts: int


def write_plan(plan: Plan, run_input: Input, folder: RunFolder) -> Planned:
    """Writes `plan/part-*.parquet`, and removes parts that an earlier, longer plan has left.

    Raises:
        UsageError: a seed is out of range, or a column is not of the type that a stage reads.
    """
    counts = Planned(0, 0, 0)
    stale = set(folder.parts("plan"))
    writing = deque[Future[None]]()
    with ThreadPoolExecutor(_WRITERS) as pool:
        for part, (table, num_duplicates) in enumerate(plan_parts(plan, run_input)):
            writing.append(pool.submit(folder.write_part, "plan", part, table))
            if len(writing) > _WAITING:
                writing.popleft().result()
            stale.discard(part)
            counts = Planned(
                counts.num_rows + table.num_rows, counts.num_duplicates + num_duplicates, part + 1
            )
    for written in writing:
        written.result()
    folder.storage.remove(part_path("plan", part) for part in stale)
    return counts


def plan_parts(plan: Plan, run_input: Input) -> Iterator[tuple[pa.Table, int]]:
    """Yields the parts of a plan, in order, each with the number of identical rows left out.

    Raises:
        UsageError: a seed is out of range, or a column is not of the type that a stage reads.
    """
    schema = plan_schema(plan, run_input.schema)
    types = TypedColumns(plan, run_input.schema, schema)
    expander = Expander(plan, run_input.schema.names, schema)
    step = max(1, PART_ROWS // expander.rows_per_input_row)
    types.check(run_input)
    for rows in _slices(_grouped(run_input, types), step):
        yield expander.planned(rows)


def _grouped(run_input: Input, types: TypedColumns) -> Iterator[pa.Table]:
    """Yields the rows of the input in the plan's types, those of one source together."""

    def read() -> Iterator[pa.Table]:
        return (types.of(batch) for batch in run_input.stream.batches())

    if run_input.survey.is_grouped:
        yield from read()
        return
    with SourceRuns() as runs:
        for batch in run_input.stream.batches([SOURCE]):
            runs.add(batch.table[SOURCE].to_pylist())
        yield from sorted_by_source(read, SOURCE, runs)


def _slices(tables: Iterable[pa.Table], step: int) -> Iterator[pa.Table]:
    """Yields slices of about `step` rows, moved to the end of a source's rows if that is near."""
    pending = list[pa.Table]()
    for table in tables:
        rows, start = pa.concat_tables([*pending, table]), 0
        while rows.num_rows - start >= 2 * step:
            stop = _end(rows[SOURCE], start, step)
            yield rows.slice(start, stop - start)
            start = stop
        pending = [rows.slice(start)]
    for rows in pending:
        start = 0
        while start < rows.num_rows:
            stop = _end(rows[SOURCE], start, step)
            yield rows.slice(start, stop - start)
            start = stop


def _end(sources: Any, start: int, step: int) -> int:
    total = len(sources)
    stop = min(total, start + step)
    while stop < min(total, start + 2 * step) and sources[stop].as_py() == (
        sources[stop - 1].as_py()
    ):
        stop += 1
    return stop
