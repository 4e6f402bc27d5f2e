"""Real S3 servers on this machine: a JuiceFS gateway, and moto, which has conditional writes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import s3fs
from overpaint.pipeline.errors import UsageError

START_TIMEOUT_S = 60
_KEY, _SECRET = "overpaint", "overpaint-secret"


@contextmanager
def juicefs(home: Path) -> Generator[dict[str, str]]:
    """Runs a JuiceFS gateway; it refuses a wrong secret and has no conditional writes.

    Args:
        home: empty folder for the gateway's files.

    Yields:
        The environment variables that lead to the gateway.

    Raises:
        UsageError: the program is not installed.
    """
    program = _program("juicefs")
    port, metrics_port = free_port(), free_port()
    meta = f"badger://{home}/meta"
    format_command = [program, "format", "--trash-days", "0", "--storage", "file"]
    with (home / "format.log").open("wb") as log:
        format_command += ["--bucket", f"{home}/data/", meta, "tests"]
        subprocess.run(format_command, check=True, stdout=log, stderr=log)
    command = [program, "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--keep-etag"]
    command += ["--object-meta", "--object-tag", "--no-usage-report", "--no-banner"]
    command += ["--log", f"{home}/gateway.log", "--cache-dir", f"{home}/cache"]
    command += ["--cache-size", "256", "--metrics", f"127.0.0.1:{metrics_port}"]
    secrets = {"MINIO_ROOT_USER": _KEY, "MINIO_ROOT_PASSWORD": _SECRET}
    with _serving(command, home / "output.log", secrets, s3_environment(port)) as access:
        yield access


@contextmanager
def moto(home: Path) -> Generator[dict[str, str]]:
    """Runs a moto server; it has conditional writes and takes any secret.

    Args:
        home: folder for the server's log.

    Yields:
        The environment variables that lead to the server.

    Raises:
        UsageError: the program is not installed.
    """
    port = free_port()
    command = [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _serving(command, home / "output.log", {}, s3_environment(port)) as access:
        yield access


def make_bucket(access: dict[str, str], name: str) -> None:
    """Creates a bucket on the server that the variables in `access` lead to."""
    _client(access).mkdir(name)


def s3_environment(port: int) -> dict[str, str]:
    """Returns the variables that lead S3 clients to a port of this machine, with its key."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def environment(**variables: str) -> Generator[None]:
    """Sets environment variables of this process, and of those it starts, inside the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_port() -> int:
    """Returns a port that nobody listens on at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    """Finds a program of the test extra on the path, or beside the Python that runs this."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which(name) or shutil.which(name, path=beside)
    if program is None:
        raise UsageError(
            f"no {name} on this machine: `bench faults` needs the test extra, "
            "pip install 'overpaint[test]'"
        )
    return program


def _client(access: dict[str, str]) -> Any:
    return s3fs.S3FileSystem(
        key=access["AWS_ACCESS_KEY_ID"],
        secret=access["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=access["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@contextmanager
def _serving(
    command: Sequence[str], log: Path, secrets: dict[str, str], access: dict[str, str]
) -> Generator[dict[str, str]]:
    """Runs a server until it answers S3 requests, and ends that process alone."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **secrets}
        )
    try:
        _wait_until(lambda: _answers(process, access), command[0], log)
        yield access
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], access: dict[str, str]) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with exit code {process.returncode}")
    port = int(access["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    try:
        _client(access).ls("")
    except OSError:
        return False
    return True


def _wait_until(is_ready: Callable[[], bool], name: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)  # between two checks of the condition
