"""Submission of a recipe as a Ray job: its log is followed and its exit code returned."""

import asyncio
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.cluster.ray.auth import asks_for_token, host_of, require_token_auth
from overpaint.pipeline.errors import StoppedError, UsageError
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

_RECIPE = "recipe.toml"
_AGENT_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """Job that a Ray head has accepted.

    Attributes:
        job_id: name of the job, as `ray job` takes it.
        client: Ray's client of the head.
    """

    job_id: str
    client: Any

    def follow(self) -> int:
        """Prints the log of the job until it ends; returns its exit code.

        Raises:
            StoppedError: the job was stopped, or ended without an exit code.
        """
        asyncio.run(_print_log(self.client, self.job_id))
        info = self.client.get_job_info(self.job_id)
        if info.driver_exit_code is not None:
            return int(info.driver_exit_code)
        raise StoppedError(
            f"job {self.job_id} ended as {info.status} ({info.message}): run the same command"
        )


def submit_job(
    recipe: str,
    arguments: Sequence[str],
    *,
    address: str,
    submission_id: str | None = None,
    wheel: Path | None = None,
    allow_open: bool = False,
) -> SubmittedJob:
    """Sends a recipe to a Ray head, which runs it by `overpaint run`.

    Args:
        recipe: text of the recipe.
        arguments: options of `overpaint run`.
        address: address of the head's dashboard, such as `http://127.0.0.1:8265`.
        submission_id: name for the job; Ray refuses to take the same one twice.
        wheel: Overpaint wheel to ship; None where the cluster's image has Overpaint.
        allow_open: whether a head that asks nobody for a token is sent the job.

    Raises:
        UsageError: no head answers at that address, it refuses the token or the job, or it is open
            to others.
    """
    # A head that does not answer is reported by the submission itself.
    if not allow_open and asks_for_token(address) is False:
        require_token_auth(f"--address {address}", [host_of(address)], address)
    # Ray takes seconds to import.
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _RECIPE).write_text(recipe)
            client = JobSubmissionClient(address)
            job_id = _retry_without_agent(client.submit_job)(
                entrypoint=_entrypoint(arguments),
                runtime_env=_environment(folder, wheel),
                submission_id=submission_id,
            )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(f"--address {address}: the job was not accepted: {reason}") from error
    return SubmittedJob(job_id, client)


def _entrypoint(arguments: Sequence[str]) -> str:
    """Returns the command line that the cluster runs."""
    return shlex.join(["python", "-m", "overpaint.jobs.cli", "run", _RECIPE, *arguments])


def _retry_without_agent(call: Callable[..., str]) -> Callable[..., str]:
    """Retries a submission while a head that has just started has no agent for jobs yet."""
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


async def _print_log(client: Any, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        sys.stdout.write(lines)
        sys.stdout.flush()
