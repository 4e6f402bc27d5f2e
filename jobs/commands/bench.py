"""bench: measures what Overpaint costs and reaches, and prints the figures with how.

Each benchmark imports what it measures when it is called: Ray and torch take seconds.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console, print_figures
from overpaint.jobs.options import Count, NewFile, NewFolder
from overpaint.pipeline.errors import UsageError

bench = App(name="bench", help="Measures what Overpaint costs and reaches, on this machine.")

Json = Annotated[NewFile | None, Parameter(name="--json")]


def register(app: App) -> None:
    """Adds the benchmarks to the app."""
    app.command(bench)


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
            given, and of FLUX.2 klein 4B's for `transformer`.
        methods: Methods to time, such as sdedit,dds; five of unlike kinds where none is given.
            `transformer` alone is timed from JPEG to PNG, exact and fast.
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
        from overpaint.jobs.bench import editor_speed
        from overpaint.jobs.bench import speed as measuring
        from overpaint.jobs.bench.random_checkpoint import save_random_checkpoint
        from overpaint.jobs.bench.random_klein import save_random_klein

    is_editor = methods == "transformer"
    save = save_random_klein if is_editor else save_random_checkpoint
    measure = editor_speed.measure_editor if is_editor else measuring.measure_speed
    console.print(editor_speed.HOW_EDITORS if is_editor else measuring.HOW)
    with tempfile.TemporaryDirectory() as folder:
        request = measuring.SpeedRequest(
            checkpoint=checkpoint or save(Path(folder)),
            methods=[m for m in methods.split(",") if m] or measuring.DEFAULT_METHODS,
            batch_sizes=batch_size or (1, 4, 16),
            side_px=side_px,
            steps=steps,
            dtype=dtype,
            repeats=repeats,
        )
        print_figures(list(measure(request)), json_file)
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
