"""submit: the same run, on a cluster."""

from pathlib import Path

from cyclopts import App
from overpaint.cluster.ray.submit import submit_job
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import RunOptions
from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.pipeline.storage.filesystems import check_known


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(submit)


def submit(
    recipe: str,
    *,
    options: RunOptions,
    address: str,
    submission_id: str | None = None,
    wheel: Path | None = None,
    wait: bool = True,
) -> int:
    """Runs a recipe as a Ray job, follows its log and returns its exit code.

    Ctrl-C stops following; the job goes on. The cluster's machines must reach the input and the
    output. RAY_AUTH_TOKEN (or the token file that Ray keeps) is sent where the head asks for one.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        options: Options of the run.
        address: Address of the head's dashboard, such as http://127.0.0.1:8265.
        submission_id: A name for the job; Ray refuses to run the same one twice.
        wheel: An Overpaint wheel to ship to a cluster that lacks Overpaint.
        wait: --no-wait returns at once.
    """
    # What is wrong wherever it runs is raised before it is sent.
    load_plan(recipe, options.settings)
    check_known(options.input)
    check_known(options.output)
    job = submit_job(
        read_recipe(recipe)[0],
        options.to_arguments(),
        address=address,
        submission_id=submission_id,
        wheel=wheel,
        allow_open=options.insecure_cluster,
    )
    console.print(f"job {job.job_id}: ray job logs --address {address} --follow {job.job_id}")
    return job.follow() if wait else 0
