"""bench of runs: what Overpaint itself costs, and what it keeps when something breaks."""

from itertools import product
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from overpaint.jobs.commands.bench import Json, bench
from overpaint.jobs.commands.output import console, print_figures, write_figures
from overpaint.jobs.options import Count
from overpaint.pipeline.errors import UsageError

_FAULT_COLUMNS = (
    *("fault", "store", "at", "lost", "duplicated", "redone", "bound", "equal_bytes", "failed"),
    *("seconds", "kept"),
)


def register(app: App) -> None:
    """Adds the benchmarks to `bench`."""
    del app
    for command in (overhead, busy, scaling, planning, growth, resume, faults):
        bench.command(command)


def overhead(
    *,
    batch_ms: Annotated[list[float] | None, Parameter(negative="")] = None,
    rows: tuple[Count, Count] = (1024, 3072),
    repeats: Count = 3,
    json_file: Json = None,
) -> int:
    """Compares the pipeline with a bare loop that waits too: read, decode, model, PNG, write.

    Args:
        batch_ms: Milliseconds of the model for a batch of 8 rows; 50 and 200 where none are given.
        rows: The two row counts between which the slope is taken.
        repeats: Runs of each; medians are used.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.overhead import HOW, measure_overhead

    if rows[0] >= rows[1]:
        raise UsageError(f"--rows {rows[0]} {rows[1]}: the second must be larger than the first")
    console.print(HOW)
    figures = [measure_overhead(ms, rows, repeats) for ms in batch_ms or [50.0, 200.0]]
    print_figures(figures, json_file)
    return 0


def busy(
    *,
    batch_ms: Annotated[list[float] | None, Parameter(negative="")] = None,
    side_px: Annotated[list[Count] | None, Parameter(negative="")] = None,
    actors: Annotated[list[Count] | None, Parameter(negative="")] = None,
    png: Annotated[list[Literal["same", "default"]] | None, Parameter(negative="")] = None,
    work: Annotated[list[Literal["sleep", "torch"]] | None, Parameter(negative="")] = None,
    system: Annotated[list[str] | None, Parameter(negative="")] = None,
    images: Count = 96,
    turns: Count = 3,
    memory: bool = False,
    json_file: Json = None,
) -> int:
    """Measures how long the model is at work, beside Ray Data, Daft and scripts of Python.

    Args:
        batch_ms: Milliseconds of the model for a batch of 4; 500, 1000 and 2000 where none are
            given.
        side_px: Side of the photographs; 512 and 1024 where none is given.
        actors: Models at work at the same time; 1 and 2 where none is given.
        png: Whether all write PNGs of one level, or each by its defaults; same where none is given.
        work: How the model spends its time: sleep, or torch on one thread; sleep where none is
            given.
        system: A system to measure: overpaint, ray_data, daft, multiprocessing or loop; all that
            are installed where none is given.
        images: Photographs for each actor.
        turns: Runs of each; medians are used.
        memory: Make one more run of each, and sample its memory.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.busy import HOW, Case, measure_busy

    console.print(HOW)
    cases = [
        Case(*case)
        for case in product(
            *(batch_ms or [500.0, 1000.0, 2000.0], side_px or [512, 1024], actors or [1, 2]),
            *(png or ["same"], work or ["sleep"]),
        )
    ]
    figures: list[dict[str, Any]] = []
    for row in measure_busy(cases, system or (), images, turns, memory=memory):
        console.print(" ".join(f"{name}={value}" for name, value in row.items()))
        figures.append(row)
    print_figures(figures, json_file)
    return 0


def scaling(
    *,
    nodes: Annotated[list[Count] | None, Parameter(negative="")] = None,
    batch_ms: float = 2000.0,
    batches: Count = 60,
    json_file: Json = None,
) -> int:
    """Runs on clusters of several sizes, whose GPUs sleep: how well more nodes do more.

    Args:
        nodes: Numbers of nodes; 1, 2, 4, 8 and 16 where none is given.
        batch_ms: Milliseconds of the model for a batch of 8.
        batches: Batches of each node.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.scaling import HOW, measure_scaling

    console.print(HOW)
    figures: list[dict[str, Any]] = []
    for row in measure_scaling(nodes or [1, 2, 4, 8, 16], batch_ms, batches):
        console.print(" ".join(f"{name}={value}" for name, value in row.items()))
        figures.append(row)
    print_figures(figures, json_file)
    return 0


def planning(*, rows: Count = 1_000_000, shuffled: bool = False, json_file: Json = None) -> int:
    """Plans a large table in parts: seconds and peak memory.

    Args:
        rows: Rows of the table.
        shuffled: Name each source twice, far from each other.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.growth import HOW_PLANNING, measure_planning

    console.print(HOW_PLANNING)
    print_figures([measure_planning(rows, shuffled=shuffled)], json_file)
    return 0


def growth(
    *, rows: Annotated[list[Count] | None, Parameter(negative="")] = None, json_file: Json = None
) -> int:
    """Runs a null model over several row counts: how time and memory grow.

    Args:
        rows: The row counts, from small to large; 1000, 10000 and 100000 where none are given.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.growth import HOW_GROWTH, measure_growth

    console.print(HOW_GROWTH)
    print_figures(measure_growth(rows or [1_000, 10_000, 100_000]), json_file)
    return 0


def resume(*, rows: Count = 1_000_000, json_file: Json = None) -> int:
    """Measures how fast the remaining tasks of a large run, almost done, are derived.

    Args:
        rows: Rows of the table.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.growth import HOW_RESUME, measure_resume

    console.print(HOW_RESUME)
    print_figures([measure_resume(rows)], json_file)
    return 0


def faults(
    *,
    fault: Annotated[list[str] | None, Parameter(negative="")] = None,
    store: Annotated[
        list[Literal["local", "juicefs", "moto"]] | None, Parameter(negative="")
    ] = None,
    at: Annotated[list[float] | None, Parameter(negative="")] = None,
    seconds: float | None = None,
    images: Literal["objects", "shards"] = "objects",
    json_file: Json = None,
) -> int:
    """Disturbs real runs and counts what was lost, doubled and done again; 1 where a promise broke.

    Args:
        fault: A fault, such as kill_driver; may be given several times; all where none is.
        store: A store for the runs; all three where none is given.
        at: Percentage of the rows at which it strikes; 10, 50 and 90 where none is given.
        seconds: Length of a fault that passes; each fault's own where none is given.
        images: How the runs keep pictures: as objects, or those of a task in a shard.
        json_file: A file for the figures.
    """
    from overpaint.jobs.faults.matrix import HOW, measure_all

    console.print(HOW)
    shares = [percent / 100 for percent in at or (10.0, 50.0, 90.0)]
    outcomes: list[dict[str, Any]] = []
    stores = store or ("local", "juicefs", "moto")
    for row in measure_all(fault or (), stores, shares, seconds, images):
        console.print(" ".join(f"{name}={value}" for name, value in row.items()))
        outcomes.append(row)
    print_figures([{name: row.get(name) for name in _FAULT_COLUMNS} for row in outcomes])
    write_figures(outcomes, json_file)
    return 0 if all(row["kept"] is not False for row in outcomes) else 1
