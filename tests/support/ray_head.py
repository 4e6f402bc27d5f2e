"""A real Ray head in processes of its own, with ports that no other head of the machine has."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Head:
    """Where a head answers: its control store, and its dashboard."""

    address: str
    url: str


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def ray_head(
    folder: Path, environment: Mapping[str, str], host: str = "127.0.0.1"
) -> Iterator[Head]:
    """Starts a head of four logical CPUs on an address of this machine, and ends it.

    By default every agent of a machine listens on one port, and the tests' local Ray has it: a head
    whose agent cannot listen takes no job.
    """
    head = Head(f"{host}:{free_port()}", f"http://{host}:{free_port()}")
    bin_folder = Path(sys.executable).parent
    port, dashboard_port = (text.rsplit(":", 1)[1] for text in (head.address, head.url))
    command = [str(bin_folder / "ray"), "start", "--head", "--block", "--num-cpus=4"]
    command += [f"--port={port}", f"--dashboard-port={dashboard_port}", f"--dashboard-host={host}"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--node-ip-address={host}"]
    command += ["--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += ["--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0"]
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "PATH": path, **environment}, stdout=log, stderr=log
        )
    try:
        _wait_until_up(head, process, folder / "head.log", environment.get("RAY_AUTH_TOKEN"))
        yield head
    finally:
        _end(process)


def _wait_until_up(
    head: Head, process: subprocess.Popen[bytes], log: Path, token: str | None
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{head.url}/api/version", headers=headers)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        answered = contextlib.suppress(urllib.error.URLError, OSError)
        with answered, urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"the head did not come up in {_START_TIMEOUT_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the head's own processes: an orderly stop would take half a minute."""
    found = psutil.Process(process.pid)
    processes = [*found.children(recursive=True), found]
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(processes, timeout=30)
