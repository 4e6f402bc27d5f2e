"""import: benchmarks of others become input tables."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.imports.benchmarks import BENCHMARKS
from overpaint.jobs.imports.writing import ROWS_FILE, check_new_folder, write_table
from overpaint.jobs.options import Count, NewFolder
from overpaint.pipeline.errors import UsageError

_BENCHMARK_HELP = f"Layout of the folder: {', '.join(BENCHMARKS.names())}, or a class of your own."


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(import_benchmark, name="import")


def import_benchmark(
    benchmark: Annotated[str, Parameter(help=_BENCHMARK_HELP)],
    folder: Path,
    *,
    output: NewFolder,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    per_task: Count | None = None,
) -> int:
    """Writes a benchmark's rows as a table with its pictures and masks, for `run --input`.

    Args:
        benchmark: Name of the benchmark.
        folder: The benchmark's folder, as its authors publish it.
        output: The folder to write; it must be empty or absent.
        only: NAME=VALUE takes the rows with that value, such as language=en; may be given several
            times.
        per_task: Rows of each of the benchmark's tasks, from the front; all where none is given.
    """
    reader = BENCHMARKS.find(benchmark)()
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    check_new_folder(output)
    counts = write_table(reader, folder, output, only=_pairs(only or ()), limit=per_task)
    tasks = ", ".join(f"{task} {number}" for task, number in counts.items())
    console.print(f"wrote {counts.total()} rows of {reader.title} to {output / ROWS_FILE}: {tasks}")
    return 0


def _pairs(only: list[str] | tuple[str, ...]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in only]
    for name, sign, _ in pairs:
        if not name or not sign:
            raise UsageError(f"--only {name!r}: write NAME=VALUE, such as language=en")
    return {name: value for name, _, value in pairs}
