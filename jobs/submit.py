"""Running a recipe as a Ray job: sent to a head, its log followed, its exit code returned."""

import asyncio
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from overpaint.jobs.recipes import read_recipe
from overpaint.pipeline.errors import StoppedError, UsageError
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

_RECIPE = "recipe.toml"
_AGENT_WAIT_S = 60


def entrypoint(arguments: Sequence[str]) -> str:
    """The command line that the cluster runs; the recipe is sent along."""
    return shlex.join(["python", "-m", "overpaint.jobs.cli", "run", _RECIPE, *arguments])


def submit_job(
    recipe: str,
    arguments: Sequence[str],
    *,
    address: str,
    submission_id: str | None = None,
    wheel: Path | None = None,
) -> tuple[Any, str]:
    """Sends a recipe to a Ray head.

    Args:
        recipe: a path, or the name of a shipped recipe.
        arguments: what follows the recipe in `overpaint run`.
        address: of the head's dashboard, such as `http://127.0.0.1:8265`.
        submission_id: a name for the job; sending the same one twice is refused by Ray.
        wheel: an Overpaint wheel to ship; None where the cluster's image has Overpaint.

    Returns:
        The client, and the job's id.

    Raises:
        UsageError: no recipe, no head at that address, or it refuses the token or the job.
    """
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    text, _ = read_recipe(recipe)
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _RECIPE).write_text(text)
            client = JobSubmissionClient(address)
            job = _patient(client.submit_job)(
                entrypoint=entrypoint(arguments),
                runtime_env=_environment(folder, wheel),
                submission_id=submission_id,
            )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(f"--address {address}: the job was not accepted: {reason}") from error
    return client, job


def _patient(call: Callable[..., str]) -> Callable[..., str]:
    """Asks again while a head that has just started has no agent for jobs yet."""
    return retry(
        retry=retry_if_exception_message(match="(?s).*No available agent.*"),
        wait=wait_fixed(1),
        stop=stop_after_delay(_AGENT_WAIT_S),
        reraise=True,
    )(call)


def _environment(folder: str, wheel: Path | None) -> dict[str, Any]:
    environment: dict[str, Any] = {"working_dir": folder}
    if wheel is not None:
        if not wheel.is_file():
            raise UsageError(f"--wheel {wheel}: no such file; `make wheel` builds one")
        environment["py_modules"] = [str(wheel)]
    return environment


def follow(client: Any, job: str) -> int:
    """Prints a job's log until it ends; returns its exit code.

    Raises:
        StoppedError: it was stopped, or ended without an exit code.
    """
    asyncio.run(_print_log(client, job))
    info = client.get_job_info(job)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    raise StoppedError(f"job {job} ended as {info.status} ({info.message}): run the same command")


async def _print_log(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        sys.stdout.write(lines)
        sys.stdout.flush()
