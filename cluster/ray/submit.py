"""Submission of a recipe as a Ray job: its log is followed and its exit code returned.

Without an id of its own a job is named after its recipe and its options: the same command again
follows the job that is under way, and starts another only where that one has ended.
"""

import asyncio
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.cluster.ray.auth import asks_for_token, host_of, require_token_auth
from overpaint.pipeline.errors import StoppedError, UsageError, near_miss
from overpaint.pipeline.identity import digest
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

_RECIPE = "recipe.toml"
_AGENT_WAIT_S = 60
_STOP_WAIT_S = 60
"""Seconds that a job has to end by itself, as after a Ctrl-C; Ray's own default is 3."""
_OUTPUT = "overpaint_output"
"""Entry of a job's metadata: the run folder."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """Job that a Ray head has accepted.

    Attributes:
        job_id: name of the job, as `ray job` takes it.
        client: Ray's client of the head.
        was_running: whether the same job was under way before it was asked for.
    """

    job_id: str
    client: Any
    was_running: bool = False

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


@dataclass(frozen=True, slots=True)
class ListedJob:
    """Run of Overpaint that a head knows.

    Attributes:
        job_id: name of the job.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        output: run folder.
        started_s: time of its start, in seconds since the epoch; None where it has not started.
    """

    job_id: str
    status: str
    output: str
    started_s: float | None

    @property
    def is_under_way(self) -> bool:
        """True for a job that has not ended."""
        return self.status in ("PENDING", "RUNNING")


def submit_job(
    recipe: str,
    arguments: Sequence[str],
    *,
    address: str,
    output: str = "",
    submission_id: str | None = None,
    wheel: Path | None = None,
    packages: Sequence[Path] = (),
    allow_open: bool = False,
) -> SubmittedJob:
    """Sends a recipe to a Ray head, which runs it by `overpaint run`.

    Args:
        recipe: text of the recipe.
        arguments: options of `overpaint run`.
        address: address of the head's dashboard, such as `http://127.0.0.1:8265`.
        output: run folder, under which the job is listed.
        submission_id: name for the job, which Ray takes once; None names it after what it does.
        wheel: Overpaint wheel to ship; None where the cluster's image has Overpaint.
        packages: folders of Python packages to ship, such as those of operators of one's own.
        allow_open: whether a head that asks nobody for a token is sent the job.

    Raises:
        UsageError: no head answers at that address, it refuses the token or the job, or it is open
            to others.
    """
    with _client(address, allow_open=allow_open) as client:
        job_id = submission_id
        if job_id is None:
            name = f"overpaint-{digest([recipe, *arguments], 12)}"
            attempts = _attempts(_listed(client), name)
            if attempts and attempts[-1].is_under_way:
                return SubmittedJob(attempts[-1].job_id, client, was_running=True)
            job_id = f"{name}-{len(attempts) + 1}"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _RECIPE).write_text(recipe)
            job_id = _retry_without_agent(client.submit_job)(
                entrypoint=_entrypoint(arguments),
                runtime_env=_environment(folder, wheel, packages),
                submission_id=job_id,
                metadata={_OUTPUT: output},
            )
        return SubmittedJob(job_id, client)


def list_jobs(address: str, *, allow_open: bool = False) -> list[ListedJob]:
    """Returns the runs that a head knows, the latest last.

    Raises:
        UsageError: no head answers at that address, it refuses the token, or it is open to others.
    """
    with _client(address, allow_open=allow_open) as client:
        return _listed(client)


def stop_job(job: str, address: str, *, allow_open: bool = False) -> ListedJob:
    """Ends a submitted job as Ctrl-C would: what is committed stays, and it can go on.

    Args:
        job: name of the job, or its run folder.
        address: address of the head's dashboard.
        allow_open: whether a head that asks nobody for a token is asked.

    Returns:
        The job as it has ended.

    Raises:
        UsageError: there is no such job, or it has ended.
        StoppedError: it does not end.
    """
    with _client(address, allow_open=allow_open) as client:
        found = _find(_listed(client), job)
        client.stop_job(found.job_id)
        deadline = time.monotonic() + 2 * _STOP_WAIT_S
        while time.monotonic() < deadline:
            now = next(one for one in _listed(client) if one.job_id == found.job_id)
            if not now.is_under_way:
                return now
            time.sleep(0.2)
    raise StoppedError(f"{found.job_id}: has been asked to stop and has not ended yet")


@contextmanager
def _client(address: str, *, allow_open: bool) -> Generator[Any]:
    """Yields Ray's client of a head that is not open to others."""
    # A head that does not answer is reported by the request itself.
    if not allow_open and asks_for_token(address) is False:
        require_token_auth(f"--address {address}", [host_of(address)], address)
    # Ray takes seconds to import.
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        yield JobSubmissionClient(address)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(f"--address {address}: the job was not accepted: {reason}") from error


def _listed(client: Any) -> list[ListedJob]:
    jobs = [
        ListedJob(
            job.submission_id,
            str(getattr(job.status, "value", job.status)),
            (job.metadata or {})[_OUTPUT],
            job.start_time / 1000 if job.start_time else None,
        )
        for job in client.list_jobs()
        if job.submission_id and _OUTPUT in (job.metadata or {})
    ]
    return sorted(jobs, key=lambda job: job.started_s or float("inf"))


def _attempts(jobs: Sequence[ListedJob], name: str) -> list[ListedJob]:
    """Returns the jobs of a name, by their numbers."""
    numbered = [(job.job_id.removeprefix(f"{name}-"), job) for job in jobs]
    attempts = [(int(number), job) for number, job in numbered if number.isdecimal()]
    return [job for _, job in sorted(attempts, key=lambda attempt: attempt[0])]


def _find(jobs: Sequence[ListedJob], wanted: str) -> ListedJob:
    """Returns the job of a name, or the one under way at a run folder."""
    named = [job for job in jobs if wanted in (job.job_id, job.output)]
    under_way = [job for job in named if job.is_under_way]
    if under_way:
        return under_way[-1]
    if named:
        raise UsageError(f"{wanted}: has ended already: {named[-1].status.lower()}")
    hint = near_miss(wanted, [job.job_id for job in jobs])
    raise UsageError(f"{wanted}: no such job: {hint}")


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


def _environment(folder: str, wheel: Path | None, packages: Sequence[Path]) -> dict[str, Any]:
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S)}
    environment: dict[str, Any] = {"working_dir": folder, "env_vars": variables}
    modules: list[str] = []
    if wheel is not None:
        if not wheel.is_file():
            raise UsageError(f"--wheel {wheel}: no such file; `make wheel` builds one")
        modules.append(str(wheel))
    for package in packages:
        if not (package / "__init__.py").is_file():
            raise UsageError(
                f"--package {package}: not a folder with an __init__.py: give the package's own"
            )
        modules.append(str(package.resolve()))
    return {**environment, "py_modules": modules} if modules else environment


async def _print_log(client: Any, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        sys.stdout.write(lines)
        sys.stdout.flush()
