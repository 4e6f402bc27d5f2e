"""submit, jobs, stop: the same run, on a cluster."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.cluster.ray.submit import ListedJob, list_jobs, stop_job, submit_job
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import Flag, RunOptions
from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.pipeline.storage.filesystems import check_known


def register(app: App) -> None:
    """Adds the commands to the app."""
    for command in (submit, jobs, stop):
        app.command(command)


def submit(
    recipe: str,
    *,
    options: RunOptions,
    address: str,
    submission_id: str | None = None,
    wheel: Path | None = None,
    package: Annotated[list[Path] | None, Parameter(negative="", show_default=False)] = None,
    wait: bool = True,
) -> int:
    """Runs a recipe as a Ray job, follows its log and returns its exit code.

    The same command again follows the same job while that is under way. Ctrl-C stops following; the
    job goes on, and `overpaint stop` ends it. The cluster's machines must reach the input and the
    output. RAY_AUTH_TOKEN (or the token file that Ray keeps) is sent where the head asks for one.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        options: Options of the run.
        address: Address of the head's dashboard, such as http://127.0.0.1:8265.
        submission_id: A name for the job, which Ray takes once; without it the job is named after
            the recipe and the options.
        wheel: An Overpaint wheel to ship to a cluster that lacks Overpaint.
        package: Folder of a Python package to ship, such as that of an operator of your own; may be
            given several times.
        wait: --no-wait returns at once.
    """
    _make_importable(package or ())
    # What is wrong wherever it runs is raised before it is sent.
    load_plan(recipe, options.settings)
    check_known(options.input)
    check_known(options.output)
    job = submit_job(
        read_recipe(recipe)[0],
        options.to_arguments(),
        address=address,
        output=options.output,
        submission_id=submission_id,
        wheel=wheel,
        packages=package or (),
        allow_open=options.insecure_cluster,
    )
    state = " is under way already" if job.was_running else ""
    console.print(
        f"job {job.job_id}{state}: ray job logs --address {address} --follow {job.job_id}"
    )
    is_enough = job.was_running and options.if_idle
    return job.follow() if wait and not is_enough else 0


def jobs(*, address: str, insecure_cluster: Flag = False) -> int:
    """Lists the runs that were submitted to a cluster, the latest last.

    Args:
        address: Address of the head's dashboard, such as http://127.0.0.1:8265.
        insecure_cluster: Use a cluster that asks for no token, where nobody else can reach it.
    """
    for job in list_jobs(address, allow_open=insecure_cluster):
        console.print(f"{job.job_id}  {job.status.lower():9}  {_moment(job):25}  {job.output}")
    return 0


def stop(job: str, *, address: str, insecure_cluster: Flag = False) -> int:
    """Ends a submitted run as Ctrl-C would; the same submit goes on with it.

    Args:
        job: The name of the job, or its output.
        address: Address of the head's dashboard, such as http://127.0.0.1:8265.
        insecure_cluster: Use a cluster that asks for no token, where nobody else can reach it.
    """
    ended = stop_job(job, address, allow_open=insecure_cluster)
    console.print(f"job {ended.job_id} has ended: {ended.status.lower()}")
    return 0


def _make_importable(packages: Sequence[Path]) -> None:
    """Lets the recipe be checked here with the packages that are shipped with it."""
    for package in packages:
        sys.path.insert(0, str(package.resolve().parent))


def _moment(job: ListedJob) -> str:
    if job.started_s is None:
        return ""
    return datetime.fromtimestamp(job.started_s, UTC).isoformat(sep=" ", timespec="seconds")
