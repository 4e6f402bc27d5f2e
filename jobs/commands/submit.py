"""submit: the same run, on a cluster."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.cluster.ray.submit import submit_job
from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.pipeline.storage.uris import normalise
from rich.console import Console

console = Console(soft_wrap=True, highlight=False, markup=False)


def register(app: App) -> None:
    """Adds this command to the app."""
    app.command(submit)


def submit(
    recipe: str,
    *,
    input_uri: Annotated[str, Parameter(name="--input")],
    output: Annotated[str, Parameter(name="--output")],
    address: str,
    limit: int | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    mapping: Annotated[list[str] | None, Parameter(name="--map", negative="")] = None,
    base: str | None = None,
    update: bool = False,
    submission_id: str | None = None,
    wheel: Path | None = None,
    wait: bool = True,
    insecure_cluster: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Runs a recipe as a Ray job, follows its log and returns its exit code.

    Ctrl-C stops following; the job goes on. The cluster's machines must reach the input and the
    output. RAY_AUTH_TOKEN (or the token file that Ray keeps) is sent where the head asks for one.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        input_uri: A folder or prefix of images, a table with source_uri, or another run's folder.
        output: The run folder: a path that the cluster shares or any fsspec URL.
        address: Of the head's dashboard, such as http://127.0.0.1:8265.
        limit: Take only that many rows from the front of the input.
        settings: stage.field=value changes a field of a stage; may be given several times.
        mapping: NAME=NEW renames a column of the input table; may be given several times.
        base: What relative sources are relative to; the table's folder where none is given.
        update: Plan a run of another recipe, input or version anew, keeping what still holds.
        submission_id: A name for the job; Ray refuses to run the same one twice.
        wheel: An Overpaint wheel to ship to a cluster that lacks Overpaint.
        wait: --no-wait returns at once.
        insecure_cluster: Send it to a head that asks for no token, where nobody else can reach it.
    """
    load_plan(recipe, settings or [])
    arguments = ["--input", normalise(input_uri), "--output", normalise(output)]
    arguments += ["--limit", str(limit)] if limit is not None else []
    arguments += ["--base", normalise(base)] if base is not None else []
    arguments += [part for setting in settings or [] for part in ("--set", setting)]
    arguments += [part for entry in mapping or [] for part in ("--map", entry)]
    arguments += ["--update"] if update else []
    arguments += ["--insecure-cluster"] if insecure_cluster else []
    job = submit_job(
        read_recipe(recipe)[0],
        arguments,
        address=address,
        submission_id=submission_id,
        wheel=wheel,
        allow_open=insecure_cluster,
    )
    console.print(f"job {job.job_id}: ray job logs --address {address} --follow {job.job_id}")
    return job.follow() if wait else 0
