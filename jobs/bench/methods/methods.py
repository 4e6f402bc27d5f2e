"""Measurement of methods, finders and recipes on drawn edits, cell by cell."""

import multiprocessing
import os
import queue
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from overpaint.jobs.bench.methods.cases import Case, find_cases
from overpaint.jobs.bench.methods.drawn_rows import Drawing, DrawnEdits
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.recipes.method_table import (
    Cell,
    MeasuredRecipe,
    MethodTable,
    read_method_table,
)

HOW = """\
Drawn edits whose true results are known go through each recipe of jobs/recipes/papercut, in this
process without Ray; a recipe without a mask of its own is also run with the true one. Success: the
edit removes half of the squared error to the truth, and keeps 25 dB outside the true mask; oracle:
the same of the truth's round trip through the VAE. Attributes right: the captioner reads all of the
target's caption. Evaluations are counted, of all stages before the truth; seconds are their time on
the CPU, stages that several recipes share included in each."""

_POLL_S = 1.0
Report = Callable[[Cell], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Cells to measure.

    Attributes:
        recipes: names of recipes; none for all.
        edit_types: types of edits; none for those that each method declares.
        rows: edits of each cell.
        seed: seed of the edits.
        split: split of the drawn world that the sources show.
        checkpoint: checkpoint of the editors.
        batch_size: rows in one call; None takes that of each recipe.
        processes: cells that are measured at a time.
    """

    recipes: Sequence[str] = ()
    edit_types: Sequence[str] = ()
    rows: int = 16
    seed: int = 0
    split: Literal["train", "test"] = "test"
    checkpoint: str = "papercut"
    batch_size: int | None = None
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class _Work:
    """Cases of one type of edit that begin with the same stages, for one process."""

    cases: Sequence[Case]
    edits: DrawnEdits
    fingerprints: Sequence[str]


def measure_methods(request: Request, file: Path | None, report: Report) -> MethodTable:
    """Measures all cells that are not in the table yet, and returns the table.

    Args:
        request: what is measured.
        file: the table, written after every cell; one that is there goes on. None writes none.
        report: called with each new cell.

    Raises:
        UsageError: there is no such recipe or checkpoint, or the table is of other weights.
    """
    cases = find_cases(request.recipes, request.checkpoint, request.batch_size)
    recipes = {case.recipe: case.measured for case in cases}
    table = _started(request, file, recipes)
    work = list(_work(cases, request, {cell.fingerprint for cell in table.cells}))
    recipes = {**table.recipes, **recipes}
    for cell in _measured(work, request.processes):
        report(cell)
        table = table.model_copy(
            update={"recipes": dict(sorted(recipes.items())), "cells": _merged(table.cells, [cell])}
        )
        if file is not None:
            _write(table, file)
    return table


def _started(
    request: Request, file: Path | None, recipes: Mapping[str, MeasuredRecipe]
) -> MethodTable:
    """Returns the table so far, without the cells of recipes and weights that are others now."""
    if file is None or not file.is_file():
        return MethodTable(checkpoint=request.checkpoint)
    found = read_method_table(file)
    if found.checkpoint != request.checkpoint:
        raise UsageError(f"{file} is a table of {found.checkpoint}: name another file")
    same = [c for c in found.cells if recipes.get(c.recipe) in (None, found.recipes[c.recipe])]
    return found.model_copy(update={"cells": same})


def _work(cases: Sequence[Case], request: Request, known: set[str]) -> Iterator[_Work]:
    """Yields what is not known yet, cases with the same first stages together."""
    groups: dict[tuple[str, str], list[tuple[Case, str]]] = defaultdict(list)
    for case in cases:
        prints = case.plan.fingerprints()
        for edit_type in request.edit_types or EDIT_TYPES:
            if not request.edit_types and edit_type not in case.edit_types:
                continue
            edits = _edits(request, edit_type)
            fingerprint = digest([prints, case.mask, edits.words()])
            if fingerprint not in known:
                first = next((prints[s.name] for s in case.plan.stages[1:]), "")
                groups[edit_type, first].append((case, fingerprint))
    for (edit_type, _), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        yield _Work([c for c, _ in members], _edits(request, edit_type), [f for _, f in members])


def _edits(request: Request, edit_type: str) -> DrawnEdits:
    return DrawnEdits(
        edit_type=edit_type, split=request.split, seed=request.seed, rows=request.rows
    )


def _measured(work: Sequence[_Work], processes: int) -> Iterator[Cell]:
    """Yields cells as they are measured, in no order where several processes measure."""
    if min(processes, len(work)) <= 1:
        for cases in work:
            yield from _measure(cases)
        return
    # spawn: a fork of a process that has used OpenMP threads may hang.
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        cells = manager.Queue()
        with ProcessPoolExecutor(min(processes, len(work)), mp_context=context) as pool:
            measured = [pool.submit(_measure_into, cells, cases) for cases in work]
            while not all(future.done() for future in measured):
                with suppress(queue.Empty):
                    yield cells.get(timeout=_POLL_S)
            for future in measured:
                future.result()
        while not cells.empty():
            yield cells.get()


def _measure_into(cells: "queue.Queue[Cell]", work: _Work) -> None:
    for cell in _measure(work):
        cells.put(cell)


_runner: list[Any] = []


def _measure(work: _Work) -> Iterator[Cell]:
    """Measures some cells; models stay loaded for the next call in this process."""
    from overpaint.jobs.bench.methods.figures import cell_of
    from overpaint.jobs.bench.methods.running import Runner

    if not _runner:
        import torch

        torch.set_num_threads(1)
        _runner.append(Runner(Drawing()))
    runner: Runner = _runner[0]
    runner.forget()
    for case, fingerprint in zip(work.cases, work.fingerprints, strict=True):
        run = runner.run(case, work.edits)
        yield cell_of(case, work.edits, fingerprint, run)


def _merged(cells: Sequence[Cell], new: Sequence[Cell]) -> list[Cell]:
    """Returns cells with new ones in the place of older ones of the same recipe and edits."""
    by_place = {_place(cell): cell for cell in (*cells, *new)}
    return [by_place[place] for place in sorted(by_place)]


def _place(cell: Cell) -> tuple[str, str, str, str, int, int]:
    return cell.recipe, cell.edit_type, cell.mask, cell.split, cell.seed, cell.rows


def _write(table: MethodTable, file: Path) -> None:
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(table.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)
