"""bench: what Overpaint costs and reaches, measured here and printed with how."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.jobs.bench_growth import (
    HOW_MEMORY,
    HOW_PLANNING,
    measure_memory,
    measure_planning,
)
from overpaint.jobs.bench_overhead import HOW, measure_overhead
from rich.console import Console
from rich.table import Table

console = Console(soft_wrap=True, highlight=False)
bench = App(name="bench", help="Measures what Overpaint costs and reaches, on this machine.")

Json = Annotated[Path | None, Parameter(name="--json")]


def register(app: App) -> None:
    """Adds the benchmarks to the app."""
    app.command(bench)


@bench.command
def overhead(
    *,
    batch_ms: Annotated[list[float] | None, Parameter(negative="")] = None,
    rows: tuple[int, int] = (256, 2048),
    repeats: int = 3,
    json_file: Json = None,
) -> int:
    """Holds the pipeline against a bare loop: read, decode, model, PNG, write.

    Args:
        batch_ms: What the model takes for a batch of 8 rows; 50 and 200 where none are given.
        rows: The two row counts between which the slope is taken.
        repeats: Runs of each; medians are used.
        json_file: A file for the figures.
    """
    console.print(HOW)
    found = [measure_overhead(ms, rows, repeats) for ms in batch_ms or [50.0, 200.0]]
    _show(found, json_file)
    return 0


@bench.command
def planning(*, rows: int = 1_000_000, json_file: Json = None) -> int:
    """Plans a large table: seconds and peak memory.

    Args:
        rows: How many.
        json_file: A file for the figures.
    """
    console.print(HOW_PLANNING)
    _show([measure_planning(rows)], json_file)
    return 0


@bench.command
def memory(*, rows: tuple[int, int] = (4000, 16000), json_file: Json = None) -> int:
    """Runs a null model over two row counts: how peak memory grows.

    Args:
        rows: The two row counts.
        json_file: A file for the figures.
    """
    console.print(HOW_MEMORY)
    _show([measure_memory(count) for count in rows], json_file)
    return 0


def _show(rows: Sequence[dict[str, Any]], file: Path | None) -> None:
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)
    if file is not None:
        file.write_text(json.dumps({"rows": list(rows)}, indent=2) + "\n")
