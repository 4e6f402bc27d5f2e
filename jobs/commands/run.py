"""run: edits a dataset."""

from cyclopts import App
from overpaint.jobs.commands.output import console, print_result
from overpaint.jobs.options import LOCAL_RAY, RayOptions, RunOptions
from overpaint.jobs.runs import run as runs
from overpaint.jobs.runs.display import RunDisplay
from overpaint.pipeline.errors import BusyError


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(run)


def run(recipe: str, *, options: RunOptions, where: RayOptions = LOCAL_RAY) -> int:
    """Edits a dataset; the same command goes on with a run that stopped.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        options: Options of the run.
        where: Options that say where rows run.
    """
    try:
        result = _run(recipe, options, where)
    except BusyError as error:
        if not options.if_idle:
            raise
        console.print(f"nothing is done: {error}")
        return 0
    print_result(result)
    return 0


def _run(recipe: str, options: RunOptions, where: RayOptions) -> runs.RunResult:
    return runs.run(
        recipe,
        input=options.input,
        output=options.output,
        limit=options.limit,
        settings=options.settings,
        mapping=options.renamed,
        base_uri=options.base,
        keep=options.keep,
        update=options.update,
        if_idle=options.if_idle,
        budget_gpu_hours=options.budget_gpu_hours,
        ray=where.ray,
        session=where.session(allow_open=options.insecure_cluster),
        display=RunDisplay(console),
    )
