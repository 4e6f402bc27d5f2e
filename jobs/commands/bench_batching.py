"""bench batching: what a batch gains over one row after the other."""

import json
from pathlib import Path
from typing import Any

from cyclopts import App
from overpaint.jobs.commands.bench import Json, bench
from overpaint.jobs.commands.output import console, print_figures, write_figures
from overpaint.jobs.options import Count
from overpaint.pipeline.errors import UsageError

_NOT_PRINTED = ("machine", "fingerprint")


def register(app: App) -> None:
    """Adds the benchmark to `bench`."""
    del app
    bench.command(batching)


def batching(
    *,
    methods: str = "",
    steps: Count = 10,
    turns: Count = 5,
    threads: Count = 1,
    seed: int = 0,
    json_file: Json = None,
) -> int:
    """Measures what eight rows in one call gain over one call for each, by method.

    Args:
        methods: Recipes for drawn scenes, such as dds,sdedit; all where none is given.
        steps: Most steps of each inversion and edit.
        turns: Measurements of each; medians are taken.
        threads: Threads of PyTorch.
        seed: Seed of the edits.
        json_file: A file for the figures; what it already has is not measured again.
    """
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.bench.batching import HOW, BatchingRequest, measure_batching

    names = [name for name in methods.split(",") if name]
    request = BatchingRequest(recipes=names, steps=steps, turns=turns, threads=threads, seed=seed)
    known = _figures(json_file)
    console.print(HOW)
    figures: list[dict[str, Any]] = []
    for row in measure_batching(request, known):
        console.print(f"{row['recipe']}: {row['gain_cpu']:.2f} (at least {row['least']})")
        figures.append(row)
        measured = {row["recipe"]: row for row in (*known, *figures)}
        write_figures([measured[name] for name in sorted(measured)], json_file)
    print_figures([{k: v for k, v in row.items() if k not in _NOT_PRINTED} for row in figures])
    return 0


def _figures(file: Path | None) -> list[dict[str, Any]]:
    """Returns the figures of an earlier call.

    Raises:
        UsageError: the file is of something else.
    """
    if file is None or not file.is_file():
        return []
    try:
        rows = json.loads(file.read_text())["rows"]
        assert all("fingerprint" in row for row in rows)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UsageError(f"{file}: not figures of `bench batching`: name another file") from error
    return rows
