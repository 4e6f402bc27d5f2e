"""bench editeval: the survey's benchmark, with any method or recipe and a judge."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.jobs.commands.bench import Json, bench
from overpaint.jobs.commands.output import console, print_figures, write_figures
from overpaint.jobs.options import LOCAL_RAY, Count, NewFolder, RayOptions
from overpaint.jobs.runs.display import RunDisplay

_HEADED = {"lmm_score": "LMM Score", "clip_sim_target": "CLIP similarity of edit and target prompt"}


def register(app: App) -> None:
    """Adds the benchmark to those that there are."""
    del app
    bench.command(editeval)


def editeval(
    folder: str,
    *,
    methods: str = "",
    recipe: Annotated[list[str] | None, Parameter(negative="")] = None,
    checkpoint: str | None = None,
    judge: str | None = None,
    clip: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    num_gpus: float = 0.0,
    images: Count | None = None,
    seed: int = 0,
    output: NewFolder | None = None,
    where: RayOptions = LOCAL_RAY,
    json_file: Json = None,
) -> int:
    """Scores editors on EditEval by a judge: task by editor; the same command goes on.

    Args:
        folder: EditEval's folder as it is published, or papercut, which draws one of all 12 types.
        methods: Methods such as sdedit,instruct_pix2pix, with the values of their recipes for drawn
            scenes.
        recipe: A recipe file, or the name of a shipped recipe; may be given several times.
        checkpoint: Checkpoint of the editors; each recipe's where none is given.
        judge: Checkpoint of the judge; each recipe's, or papercut, where none is given.
        clip: Checkpoint of the CLIP; each recipe's, or papercut, where none is given.
        set_: A setting of every recipe, such as judge.endpoint=http://host/v1; may be given several
            times.
        num_gpus: GPUs of an actor of the methods; recipes say so themselves.
        images: Pictures of each task; all, or 4 drawn ones, where none are given.
        seed: Seed of drawn pictures.
        output: A folder for the table and a run of each editor; FOLDER-runs here where none is
            given.
        where: Options that say where rows run.
        json_file: A file for the figures.
    """
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.bench.editeval.editeval import HOW, Request, measure_editeval
        from overpaint.jobs.bench.editeval.plans import Editors
        from overpaint.jobs.bench.editeval.tables import SHOWN, across

    editors = Editors(
        methods=[name for name in methods.split(",") if name],
        recipes=recipe or (),
        checkpoint=checkpoint,
        clip=clip,
        judge=judge,
        settings=set_ or (),
        num_gpus=num_gpus,
    )
    runs = output or Path(f"{Path(folder).resolve().name}-runs")
    request = Request(folder=folder, editors=editors, output=runs, images=images, seed=seed)
    console.print(HOW)
    figures: list[dict[str, Any]] = []
    for rows in measure_editeval(request, where.session(allow_open=False), _display):
        figures += rows
        write_figures(figures, json_file)
    print_figures([{name: row[name] for name in SHOWN} for row in figures])
    for column, title in _HEADED.items():
        console.print(f"\n{title}")
        print_figures(across(figures, column))
    return 0


def _display(name: str) -> RunDisplay:
    console.print(f"\n{name}")
    return RunDisplay(console)
