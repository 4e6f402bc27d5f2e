"""The faults: each takes one run from its start to its end, and disturbs it on the way.

A fault that returns has run the command until it exited with 0.
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
from overpaint.jobs.faults.proxy import Mode
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
    """A fault that this machine cannot be given; one sentence."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that a run can be given.

    Attributes:
        name: name of the fault on the command line.
        disturb: function that takes a run to its end and disturbs it.
        stores: names of the stores on which the fault means something.
        exit_codes: exit codes of the commands that the run takes.
        fault_s: duration of a fault that passes, in seconds.
    """

    name: str
    disturb: Callable[[Trial], None]
    stores: tuple[str, ...] = LOCAL + S3
    exit_codes: tuple[int, ...] = (0,)
    fault_s: float = 20.0


def kill_driver(trial: Trial) -> None:
    """Sends SIGKILL to the command."""
    run = trial.start()
    trial.wait_for_share(run)
    run.kill()
    trial.wait(run)
    trial.run_until_done()


def stop_driver(trial: Trial) -> None:
    """Sends SIGTERM to the command, as clusters and job servers stop one."""
    run = trial.start()
    trial.wait_for_share(run)
    run.terminate()
    trial.wait(run)
    trial.run_until_done()


def kill_actor(trial: Trial) -> None:
    """Sends SIGKILL to the process that was called last."""
    run = trial.start()
    trial.wait_for_share(run)
    os.kill(trial.calls[-1].pid, signal.SIGKILL)
    trial.wait(run)
    trial.run_until_done()


def kill_node(trial: Trial) -> None:
    """Removes one of three nodes of a cluster, with the actor that was called last."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    trial.cleanup.callback(cluster.shutdown)
    nodes = [cluster.add_node(num_cpus=3, **small) for _ in range(2)]
    trial.address = cluster.address
    run = trial.start()
    trial.wait_for_share(run)
    cluster.remove_node(_node_of(trial.calls[-1].pid, nodes), allow_graceful=False)
    trial.wait(run)
    trial.run_until_done()


def _node_of(pid: int, nodes: list[Any]) -> Any:
    parents = {parent.pid for parent in psutil.Process(pid).parents()}
    by_raylet = {info.process.pid: node for node in nodes for info in _raylets(node)}
    return next(by_raylet[parent] for parent in parents if parent in by_raylet)


def _raylets(node: Any) -> list[Any]:
    return list(node.all_processes["raylet"])


def segfault_row(trial: Trial) -> None:
    """Lets a row end its process by a segmentation fault, at each attempt."""
    _poison(trial, "segfault")


def exit_row(trial: Trial) -> None:
    """Lets a row end its process by os._exit, and the next row call sys.exit."""
    _poison(trial, "os_exit", "sys_exit")


def hang_row(trial: Trial) -> None:
    """Lets a row hang forever, with a time limit of two seconds a row."""
    trial.row_timeout_s = 2.0
    _poison(trial, "hang")


def nan(trial: Trial) -> None:
    """Lets the operator answer a row with NaN."""
    _poison(trial, "nan")


def _poison(trial: Trial, *troubles: Trouble) -> None:
    first = trial.sources.index(trial.source_at)
    for source, trouble in zip(trial.sources[first:], troubles, strict=False):
        trial.troubles[source] = trouble
        trial.must_fail[source] = _CODES[trouble]
    trial.run_until_done()


def corrupt_input(trial: Trial) -> None:
    """Overwrites the last four sources with garbage during the run."""
    copy = trial.copy_input()
    trial.may_fail = set(trial.sources[-4:])
    run = trial.start()
    trial.wait_for_share(run)
    for source in trial.sources[-4:]:
        copy.write(source, _GARBAGE)
    trial.wait(run)
    trial.run_until_done()


def disk_full(trial: Trial) -> None:
    """Fills the disk that the run writes to, and empties it after the run has stopped."""
    disk = trial.folder / "disk"
    _mount(trial, disk)
    trial.output = str(disk / "run")
    run = trial.start()
    trial.wait_for_share(run)
    _fill(disk / "ballast")
    trial.wait(run)
    (disk / "ballast").unlink()
    trial.run_until_done()


def _mount(trial: Trial, disk: Path) -> None:
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        raise SkippedError(f"disk_full needs a small disk: {mounted.stderr.strip()}")
    trial.cleanup.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)


def _fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(_DISK_MIB * 256 * 4):
            file.write(bytes(1024))


def s3_slow(trial: Trial) -> None:
    """Slows each request by a quarter of a second."""
    _disturb_store(trial, "slow")


def s3_throttled(trial: Trial) -> None:
    """Answers a third of the requests with 503 SlowDown."""
    _disturb_store(trial, "throttled")


def s3_torn(trial: Trial) -> None:
    """Cuts a third of the bodies, both ways, in the middle."""
    _disturb_store(trial, "torn")


def s3_absent(trial: Trial) -> None:
    """Refuses connections, and cuts those that are open."""
    _disturb_store(trial, "absent")


def _disturb_store(trial: Trial, mode: Mode) -> None:
    assert trial.proxy is not None, "on a store behind a proxy"
    trial.copy_input()
    run = trial.start()
    trial.wait_for_share(run)
    before = trial.proxy.num_disturbed
    trial.proxy.set_mode(mode)
    with suppress(subprocess.TimeoutExpired):
        run.wait(trial.fault_s)
    trial.proxy.set_mode("good")
    if trial.proxy.num_disturbed == before and run.poll() is not None:
        raise FaultError(f"the store was {mode} and the run met nothing of it: this shows nothing")
    trial.wait(run)
    trial.run_until_done()


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
