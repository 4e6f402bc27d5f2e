"""bench: measures what Overpaint costs and reaches, and prints the figures with how.

Each benchmark imports what it measures when it is called: Ray and torch take seconds.
"""

from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console, print_figures, write_figures
from overpaint.jobs.options import Count, NewFile, NewFolder
from overpaint.pipeline.errors import UsageError

bench = App(name="bench", help="Measures what Overpaint costs and reaches, on this machine.")

_FAULT_COLUMNS = (
    *("fault", "store", "at", "lost", "duplicated", "redone", "bound", "equal_bytes", "failed"),
    *("seconds", "kept"),
)
Json = Annotated[NewFile | None, Parameter(name="--json")]


def register(app: App) -> None:
    """Adds the benchmarks to the app."""
    app.command(bench)


@bench.command
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


@bench.command
def busy(
    *,
    batch_ms: Annotated[list[float] | None, Parameter(negative="")] = None,
    side_px: Annotated[list[Count] | None, Parameter(negative="")] = None,
    actors: Annotated[list[Count] | None, Parameter(negative="")] = None,
    png: Annotated[list[Literal["same", "default"]] | None, Parameter(negative="")] = None,
    work: Annotated[list[Literal["sleep", "torch"]] | None, Parameter(negative="")] = None,
    system: Annotated[
        list[Literal["overpaint", "ray_data", "loop"]] | None, Parameter(negative="")
    ] = None,
    images: Count = 96,
    turns: Count = 3,
    memory: bool = False,
    json_file: Json = None,
) -> int:
    """Measures how long the model is at work, beside Ray Data by itself and a loop.

    Args:
        batch_ms: Milliseconds of the model for a batch of 4; 500, 1000 and 2000 where none are
            given.
        side_px: Side of the photographs; 512 and 1024 where none is given.
        actors: Models at work at the same time; 1 and 2 where none is given.
        png: Whether all write PNGs of one level, or each by its defaults; same where none is given.
        work: How the model spends its time: sleep, or torch on one thread; sleep where none is
            given.
        system: A system to measure; all three where none is given.
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
    systems = system or ["overpaint", "ray_data", "loop"]
    for row in measure_busy(cases, systems, images, turns, memory=memory):
        console.print(" ".join(f"{name}={value}" for name, value in row.items()))
        figures.append(row)
    print_figures(figures, json_file)
    return 0


@bench.command
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


@bench.command
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


@bench.command
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


@bench.command
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


@bench.command
def instruct(*, edits: Count = 100, seed: int = 0, json_file: Json = None) -> int:
    """Measures how many unseen papercut instructions the rules of `instruct` read rightly.

    Args:
        edits: Edits of each of the twelve types, in all their phrasings.
        seed: Another seed gives other edits.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.instruct import HOW, measure_instruct

    console.print(HOW)
    print_figures(measure_instruct(edits, seed), json_file)
    return 0


@bench.command
def faults(
    *,
    fault: Annotated[list[str] | None, Parameter(negative="")] = None,
    store: Annotated[
        list[Literal["local", "juicefs", "moto"]] | None, Parameter(negative="")
    ] = None,
    at: Annotated[list[float] | None, Parameter(negative="")] = None,
    seconds: float | None = None,
    json_file: Json = None,
) -> int:
    """Disturbs real runs and counts what was lost, doubled and done again; 1 where a promise broke.

    Args:
        fault: A fault, such as kill_driver; may be given several times; all where none is.
        store: A store for the runs; all three where none is given.
        at: Percentage of the rows at which it strikes; 10, 50 and 90 where none is given.
        seconds: Length of a fault that passes; each fault's own where none is given.
        json_file: A file for the figures.
    """
    from overpaint.jobs.faults.matrix import HOW, measure_all

    console.print(HOW)
    shares = [percent / 100 for percent in at or (10.0, 50.0, 90.0)]
    outcomes: list[dict[str, Any]] = []
    for row in measure_all(fault or (), store or ("local", "juicefs", "moto"), shares, seconds):
        console.print(" ".join(f"{name}={value}" for name, value in row.items()))
        outcomes.append(row)
    print_figures([{name: row.get(name) for name in _FAULT_COLUMNS} for row in outcomes])
    write_figures(outcomes, json_file)
    return 0 if all(row["kept"] is not False for row in outcomes) else 1


@bench.command
def methods(
    *,
    methods: str = "",
    rows: Count = 16,
    seed: int = 0,
    edit_types: str = "",
    split: Literal["train", "test"] = "test",
    checkpoint: str = "papercut",
    batch_size: Count | None = None,
    processes: Count | None = None,
    sheet: NewFile | None = None,
    json_file: Json = None,
) -> int:
    """Measures methods, finders and recipes on drawn edits whose true results are known.

    Args:
        methods: Recipes for drawn scenes, such as dds,sdedit, which are named after their methods
            and finders; all where none is given.
        rows: Edits of each type.
        seed: Seed of the edits.
        edit_types: Types of edits, such as color,replace; those that each method declares where
            none is given.
        split: Whether the scenes are of the training or of the test split.
        checkpoint: Checkpoint of the editors: papercut, a folder, or a hub id.
        batch_size: Rows in one call of an editor; each recipe's where none is given.
        processes: Cells that are measured at a time; one for each core where none is given.
        sheet: A file for a picture: an edit of each type by the best methods of the table.
        json_file: A file for the table; what it already has is not measured again.
    """
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.bench.methods.methods import HOW, Request, measure_methods
    from overpaint.jobs.bench.methods.printing import figures_of
    from overpaint.jobs.papercut.dataset import parse_edit_types

    names = [name for name in methods.split(",") if name]
    try:
        types = parse_edit_types(edit_types.split(",")) if edit_types else ()
    except ValueError as error:
        raise UsageError(str(error)) from error
    own = {} if processes is None else {"processes": processes}
    request = Request(
        recipes=names,
        edit_types=types,
        rows=rows,
        seed=seed,
        split=split,
        checkpoint=checkpoint,
        batch_size=batch_size,
        **own,
    )
    console.print(HOW)
    table = measure_methods(request, json_file, lambda cell: console.print(cell.line()))
    print_figures(figures_of(table))
    if sheet is not None:
        from overpaint.jobs.bench.methods.sheet import methods_sheet

        methods_sheet(table, seed=seed).save(sheet)
    return 0


@bench.command
def speed(
    *,
    checkpoint: str = "",
    methods: str = "",
    batch_size: Annotated[list[Count] | None, Parameter(negative="")] = None,
    side_px: Count = 512,
    steps: Count = 20,
    dtype: Literal["float32", "float16", "bfloat16"] = "float16",
    repeats: Count = 3,
    json_file: Json = None,
) -> int:
    """Times editing methods: images a second, the GPU's share, and peak memory by batch size.

    Args:
        checkpoint: Folder or hub id; random weights of Stable Diffusion 1.5's shape where none is
            given.
        methods: Methods to time, such as sdedit,dds; five of unlike kinds where none is given.
        batch_size: Rows in one call; 1, 4 and 16 where none is given.
        side_px: Side of the pictures.
        steps: Sampling steps.
        dtype: Number type of weights and computation.
        repeats: Timed runs of each; the median is given.
        json_file: A file for the figures.
    """
    import tempfile

    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.bench import speed as measuring
        from overpaint.jobs.bench.random_checkpoint import save_random_checkpoint

    console.print(measuring.HOW)
    with tempfile.TemporaryDirectory() as folder:
        request = measuring.SpeedRequest(
            checkpoint=checkpoint or save_random_checkpoint(Path(folder)),
            methods=[m for m in methods.split(",") if m] or measuring.DEFAULT_METHODS,
            batch_sizes=batch_size or (1, 4, 16),
            side_px=side_px,
            steps=steps,
            dtype=dtype,
            repeats=repeats,
        )
        print_figures(list(measuring.measure_speed(request)), json_file)
    return 0


@bench.command
def checkpoints(
    *,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    scenes: Count = 512,
    folder: Path | None = None,
    sheets: NewFolder | None = None,
    cards: bool = False,
    json_file: Json = None,
) -> int:
    """Measures the papercut checkpoints on unseen scenes, beside what they are to reach.

    Args:
        only: A checkpoint, such as vae; all where none is given.
        scenes: Number of scenes, edits or pairs for each.
        folder: Folder of the checkpoints; the package's own where none is given.
        sheets: A folder for sample sheets; beside json_file where none is given.
        cards: Write the figures into the checkpoints' model cards.
        json_file: A file for the figures.
    """
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.measuring import measure_checkpoints, write_cards

    checkpoints = folder or Path(str(files("overpaint.operators.models"))) / "papercut"
    if sheets is None and json_file is not None:
        sheets = json_file.parent / "sheets"
    try:
        rows = measure_checkpoints(checkpoints, only or (), num_scenes=scenes, sheets=sheets)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if cards:
        write_cards(checkpoints, rows)
    print_figures(rows, json_file)
    return 0


@bench.command
def outpaint(
    *,
    recipe: str | None = None,
    scenes: Count = 64,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    sheet: NewFile | None = None,
    json_file: Json = None,
) -> int:
    """Outpaints the middle of drawn scenes back to the whole, and reads what comes out.

    Args:
        recipe: A recipe with the stages extend and edit; papercut's outpaint where none is given.
        scenes: Number of unseen scenes.
        set_: A setting of the recipe, such as edit.task=context; may be given several times.
        sheet: A picture file for the first scenes: what was given, made, and drawn.
        json_file: A file for the figures.
    """
    from overpaint.jobs.recipes import load_plan
    from overpaint.operators.models.pretrained import quietly

    with quietly():
        from overpaint.jobs.bench.outpaint import HOW, RECIPE, measure_outpainting

    plan = load_plan(recipe or str(files("overpaint.jobs") / RECIPE), set_ or ())
    console.print(HOW)
    print_figures(measure_outpainting(plan, scenes, sheet=sheet), json_file)
    return 0


@bench.command
def align(
    *, edits: Count = 32, photographs: str = "", seed: int = 0, json_file: Json = None
) -> int:
    """Measures alignment on drawn edits and photographs whose shift and scale are known.

    Args:
        edits: Drawn edits of each type.
        photographs: Names in skimage.data, such as astronaut,coffee; eight where none is given.
        seed: Another seed gives other edits.
        json_file: A file for the figures.
    """
    from overpaint.jobs.bench.align import HOW, PHOTOGRAPHS, measure_align

    console.print(HOW)
    names = [name for name in photographs.split(",") if name]
    print_figures(list(measure_align(edits, names or PHOTOGRAPHS, seed)), json_file)
    return 0
