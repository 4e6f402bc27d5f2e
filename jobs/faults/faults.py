"""The faults: each is the story of one disturbed run, from its start to its end.

A story that returns has given the command until it exited with 0.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from overpaint.jobs.faults.operator import Trouble
from overpaint.jobs.faults.proxy import Mood
from overpaint.jobs.faults.trial import FaultError, Trial

LOCAL, S3 = ("local",), ("juicefs", "moto")
_STOPPED = 3
_CODES: dict[Trouble, str] = {
    "segfault": "worker_died",
    "os_exit": "worker_died",
    "hang": "worker_died",
    "sys_exit": "system_exit",
    "nan": "nan_in_result",
}
_DISK_MIB = 4
_GARBAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class SkippedError(RuntimeError):
    """This machine cannot be given the fault; one sentence."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that a run can be given.

    Args:
        name: what it is called on the command line.
        tell: the story.
        stores: those that it means something on.
        exit_codes: of the runs that it takes.
        fault_s: how long it lasts where it passes, in seconds.
    """

    name: str
    tell: Callable[[Trial], None]
    stores: tuple[str, ...] = LOCAL + S3
    exit_codes: tuple[int, ...] = (0,)
    fault_s: float = 20.0


def kill_driver(trial: Trial) -> None:
    """SIGKILL to the command."""
    run = trial.start()
    trial.reach(run)
    run.kill()
    trial.end(run)
    trial.go_on()


def stop_driver(trial: Trial) -> None:
    """SIGTERM to the command, as clusters and job servers stop one."""
    run = trial.start()
    trial.reach(run)
    run.terminate()
    trial.end(run)
    trial.go_on()


def kill_actor(trial: Trial) -> None:
    """SIGKILL to the process that noted a row last."""
    run = trial.start()
    trial.reach(run)
    os.kill(trial.calls[-1].pid, signal.SIGKILL)
    trial.end(run)
    trial.go_on()


def kill_node(trial: Trial) -> None:
    """One of three nodes of a cluster is lost, with the actor that noted a row last."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    trial.after.callback(cluster.shutdown)
    nodes = [cluster.add_node(num_cpus=3, **small) for _ in range(2)]
    trial.address = cluster.address
    run = trial.start()
    trial.reach(run)
    cluster.remove_node(_node_of(trial.calls[-1].pid, nodes), allow_graceful=False)
    trial.end(run)
    trial.go_on()


def _node_of(pid: int, nodes: list[Any]) -> Any:
    parents = {parent.pid for parent in psutil.Process(pid).parents()}
    by_raylet = {info.process.pid: node for node in nodes for info in _raylets(node)}
    return next(by_raylet[parent] for parent in parents if parent in by_raylet)


def _raylets(node: Any) -> list[Any]:
    return list(node.all_processes["raylet"])


def segfault_row(trial: Trial) -> None:
    """A row that ends its process by a segmentation fault, at each attempt."""
    _poison(trial, "segfault")


def exit_row(trial: Trial) -> None:
    """A row that ends its process by os._exit, and the next one that calls sys.exit."""
    _poison(trial, "os_exit", "sys_exit")


def hang_row(trial: Trial) -> None:
    """A row that never comes back, with a time limit of two seconds a row."""
    trial.row_timeout_s = 2.0
    _poison(trial, "hang")


def nan(trial: Trial) -> None:
    """A model that answers a row with a number that is none."""
    _poison(trial, "nan")


def _poison(trial: Trial, *troubles: Trouble) -> None:
    first = trial.sources.index(trial.source_at)
    for source, trouble in zip(trial.sources[first:], troubles, strict=False):
        trial.troubles[source] = trouble
        trial.must_fail[source] = _CODES[trouble]
    trial.go_on()


def corrupt_input(trial: Trial) -> None:
    """The last four sources become garbage while the run goes."""
    own = trial.own_input()
    trial.may_fail = set(trial.sources[-4:])
    run = trial.start()
    trial.reach(run)
    for source in trial.sources[-4:]:
        own.write(source, _GARBAGE)
    trial.end(run)
    trial.go_on()


def disk_full(trial: Trial) -> None:
    """The disk that the run writes to fills up, and has room again after the run has stopped."""
    disk = trial.folder / "disk"
    _mount(trial, disk)
    trial.output = str(disk / "run")
    run = trial.start()
    trial.reach(run)
    _fill(disk / "ballast")
    trial.end(run)
    (disk / "ballast").unlink()
    trial.go_on()


def _mount(trial: Trial, disk: Path) -> None:
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(disk)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        raise SkippedError(f"disk_full needs a small disk, and mount says: {made.stderr.strip()}")
    trial.after.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)


def _fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(_DISK_MIB * 256 * 4):
            file.write(bytes(1024))


def s3_slow(trial: Trial) -> None:
    """Each request takes a quarter of a second more."""
    _weather(trial, "slow")


def s3_throttled(trial: Trial) -> None:
    """A third of the requests is answered with 503 SlowDown."""
    _weather(trial, "throttled")


def s3_torn(trial: Trial) -> None:
    """A third of the bodies, both ways, ends in the middle with a lost connection."""
    _weather(trial, "torn")


def s3_absent(trial: Trial) -> None:
    """Connections are refused, and those under way are cut."""
    _weather(trial, "absent")


def _weather(trial: Trial, mood: Mood) -> None:
    assert trial.proxy is not None, "on a store behind a proxy"
    trial.own_input()
    run = trial.start()
    trial.reach(run)
    before = trial.proxy.num_harmed
    trial.proxy.become(mood)
    with suppress(subprocess.TimeoutExpired):
        run.wait(trial.fault_s)
    trial.proxy.become("good")
    if trial.proxy.num_harmed == before and run.poll() is not None:
        raise FaultError(f"the store was {mood} and the run met nothing of it: this shows nothing")
    trial.end(run)
    trial.go_on()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill_driver", kill_driver, exit_codes=(-signal.SIGKILL, 0)),
        Fault("stop_driver", stop_driver, exit_codes=(_STOPPED, 0)),
        Fault("kill_actor", kill_actor),
        Fault("kill_node", kill_node),
        Fault("segfault_row", segfault_row),
        Fault("exit_row", exit_row),
        Fault("hang_row", hang_row),
        Fault("nan", nan),
        Fault("corrupt_input", corrupt_input),
        Fault("disk_full", disk_full, LOCAL, exit_codes=(_STOPPED, 0)),
        Fault("s3_slow", s3_slow, S3),
        Fault("s3_throttled", s3_throttled, S3, fault_s=60),
        Fault("s3_torn", s3_torn, S3),
        Fault("s3_absent", s3_absent, S3),
    )
}
