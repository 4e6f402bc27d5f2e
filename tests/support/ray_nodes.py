"""A Ray cluster of several nodes on this machine that asks for a token, in a process of its own.

Ray reads a process's token once: a process that has joined other clusters cannot start this one. It
has a folder of its own, where its jobs find its address and not that of another on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_head import free_port

_STORE_BYTES = 80 * 2**20


@dataclass(frozen=True, slots=True)
class Nodes:
    """The address of a cluster's dashboard, the cluster's token, and its nodes with GPUs."""

    url: str
    token: str
    gpu_node_ids: tuple[str, ...]

    def actors(self) -> list[dict[str, Any]]:
        """All actors that were ever started, as Ray's dashboard tells."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.url}/api/v0/actors?detail=1", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.loads(answer.read())
        return told["data"]["result"]["result"]


@contextmanager
def token_cluster(gpu_nodes: int, token: str) -> Iterator[Nodes]:
    """Starts a head of two CPUs and nodes with a CPU and a GPU that is none; ends them."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(gpu_nodes)],
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": token,
                "RAY_TMPDIR": folder,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        told = process.stdout.readline()
        assert told, Path(log.name).read_text()
        found = json.loads(told)
        try:
            yield Nodes(found["url"], token, tuple(found["gpu_node_ids"]))
        finally:
            process.communicate(timeout=120)


def _main(gpu_nodes: int) -> None:
    """Starts the cluster, tells about it, and ends it when nobody listens any more."""
    from ray.cluster_utils import Cluster

    port = free_port()
    common = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}
    head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": port}
    head |= {"dashboard_agent_listen_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args={**common, **head})
    try:
        nodes = [cluster.add_node(**common, num_gpus=1) for _ in range(gpu_nodes)]
        cluster.wait_for_nodes()
        told = {"url": f"http://127.0.0.1:{port}", "gpu_node_ids": [n.node_id for n in nodes]}
        print(json.dumps(told), flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
