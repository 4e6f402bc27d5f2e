"""Servers that tests talk to, real ones: S3 (JuiceFS gateway and moto) and a local Ray."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest
from overpaint.jobs.faults import servers
from overpaint.pipeline.errors import UsageError

SUPPORT = Path(__file__).parent / "support"

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A JuiceFS gateway; yields the environment that leads to it, which the session has too."""
    with ExitStack() as stack:
        try:
            home = tmp_path_factory.mktemp("juicefs")
            environment = stack.enter_context(servers.juicefs(home))
        except UsageError as error:
            pytest.skip(str(error))
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
    with ExitStack() as stack:
        try:
            environment = stack.enter_context(servers.moto(tmp_path_factory.mktemp("moto")))
        except UsageError as error:
            pytest.skip(str(error))
        yield environment


@pytest.fixture
def moto_s3(_moto_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty `s3://bucket/prefix` on a moto server, which checks conditional writes."""
    for name, value in _moto_server.items():
        monkeypatch.setenv(name, value)
    yield from _prefix(_moto_server)


@pytest.fixture(scope="session")
def ray_local(s3_server: dict[str, str]) -> Iterator[None]:
    """A local Ray of four logical CPUs, for the rest of the session.

    Its workers have the environment of this moment: the S3 server comes first, and operators of
    the tests are on `PYTHONPATH`.
    """
    del s3_server
    with _local_ray():
        yield


@pytest.fixture(scope="module")
def ray_of_module() -> Iterator[None]:
    """A local Ray that ends with the module: a process that uses one must not be forked."""
    with _local_ray():
        yield


@contextmanager
def _local_ray() -> Iterator[None]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        paths = [str(SUPPORT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=0,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


def _prefix(environment: dict[str, str]) -> Iterator[str]:
    import s3fs

    # fsspec keeps its clients: one made for another server must not answer here.
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    servers.make_bucket(environment, bucket)
    yield f"s3://{bucket}/prefix"
    s3fs.S3FileSystem.clear_instance_cache()
