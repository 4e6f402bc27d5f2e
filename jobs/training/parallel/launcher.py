"""Training of all checkpoints: drawing workers, lanes that are started again, and a deadline.

The folder of a training holds what the lanes write (`lane.py`), `launcher.jsonl`, and at the end
`facts.json`: the scaling factor, the device, and the training record of each checkpoint.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overpaint.jobs.training.parallel.drawing import SIZES_FILE
from overpaint.jobs.training.parallel.plan import (
    CHECKPOINTS,
    Plan,
    dry_run_plan,
    plan_for,
    shared_folder,
)
from overpaint.pipeline.errors import UsageError, near_miss

ENDED_FILE = "ended.json"
FACTS_FILE = "facts.json"
_PACKAGE = __package__ or "overpaint.jobs.training.parallel"
_POLL_S = 0.5
_MOST_STARTS = 20
# A lane logs every 15 s, between two stages later: a CPU then encodes for minutes.
_SILENCE_S = {"cuda": 60.0, "cpu": 600.0}
# Imports, and what CUDA compiles at first.
_START_S = 90.0
_EXPORT_S = 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Training of all checkpoints.

    Attributes:
        out: folder of weights and logs.
        seconds: duration.
        device: `cuda` or `cpu`.
        shipped: folder of the checkpoints to start from.
        is_dry: take a few steps of every stage only.
        can_record: record steps as CUDA graphs.
        only: checkpoints to train; none for all.
        plan: examples, workers and lanes; None for what suits the machine.
    """

    out: Path
    seconds: float
    device: str
    shipped: Path
    is_dry: bool = False
    can_record: bool = True
    only: Sequence[str] = ()
    plan: Plan | None = None


def train_all(training: Training) -> int:
    """Trains all checkpoints until the time is over.

    Returns:
        0; 1 where a lane could not be brought to its end, with what it has reached in the folder.

    Raises:
        UsageError: the folder is not empty, there is no GPU, no such checkpoint, or too little
            disk for what is drawn.
    """
    started = time.time()
    _prepare(training)
    with ExitStack() as stack:
        drawn = shared_folder() / f"overpaint-drawn-{os.getpid()}"
        drawn.mkdir()
        stack.callback(shutil.rmtree, drawn, ignore_errors=True)
        plan = training.plan or _plan(training, drawn)
        log = _Log(training.out, started)
        log.line({"event": "start", **_machine(), "plan": _described(plan)})
        drawing = _start_drawing(drawn, plan, training.out)
        stack.callback(_end, drawing)
        _wait_for_arrays(drawing, drawn, training.out)
        deadline = started + training.seconds - _EXPORT_S
        names = ("all",) if plan.num_lanes == 1 else ("latent", "perception")
        lanes = [
            _Lane(
                name,
                _lane_command(name, training, drawn, started, deadline, plan),
                training.out,
                _SILENCE_S[training.device],
            )
            for name in names
        ]
        for lane in lanes:
            stack.callback(lane.end)
        signal.signal(signal.SIGTERM, _stop)
        failed = _watch_over(lanes, started + training.seconds, log)
    write_facts(training.out)
    (training.out / ENDED_FILE).write_text(json.dumps({"failed": failed}))
    log.line({"event": "end", "failed": ", ".join(failed) or "none"})
    return 1 if failed else 0


def write_facts(out: Path) -> None:
    """Writes `facts.json` from what the lanes have written so far."""
    facts: dict[str, Any] = {"checkpoints": {}}
    for path in sorted(out.glob("*.json")):
        state = json.loads(path.read_text())
        if "records" in state:
            facts["checkpoints"] |= state["records"]
            facts |= state["facts"]
    devices = [record["device"] for record in facts["checkpoints"].values()]
    temporary = out / f".{FACTS_FILE}"
    temporary.write_text(json.dumps(facts | {"device": devices[0] if devices else ""}, indent=1))
    temporary.replace(out / FACTS_FILE)


def _prepare(training: Training) -> None:
    if training.seconds <= 0:
        raise UsageError(f"seconds is {training.seconds:g}; it must be above 0")
    for name in training.only:
        if name not in CHECKPOINTS:
            raise UsageError(f"no checkpoint {name!r}: {near_miss(name, CHECKPOINTS)}")
    if training.out.is_dir() and any(training.out.iterdir()):
        raise UsageError(f"{training.out} is not empty; name a folder that is empty or absent")
    training.out.mkdir(parents=True, exist_ok=True)
    if training.device == "cuda" and shutil.which("nvidia-smi") is None:
        raise UsageError("device is cuda, and this machine has no nvidia-smi: no GPU to train on")


def _plan(training: Training, drawn: Path) -> Plan:
    if training.is_dry:
        return dry_run_plan(training.only)
    has_gpu = training.device == "cuda"
    return plan_for(training.seconds, drawn, has_gpu=has_gpu, only=training.only)


def _described(plan: Plan) -> dict[str, Any]:
    return {"sizes": dict(plan.sizes), "workers": plan.num_workers, "lanes": plan.num_lanes}


def _machine() -> dict[str, Any]:
    free = shutil.disk_usage(shared_folder()).free
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    return machine | {"free_shared_gb": round(free / 1e9, 1)}


def _start_drawing(drawn: Path, plan: Plan, out: Path) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", f"{_PACKAGE}.drawing", str(drawn)),
        *("--sizes", json.dumps(dict(plan.sizes)), "--workers", str(plan.num_workers)),
    ]
    with (out / "drawing.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _lane_command(
    name: str, training: Training, drawn: Path, started: float, deadline: float, plan: Plan
) -> list[str]:
    command = [
        *(sys.executable, "-m", _PACKAGE, "lane", name),
        *("--out", str(training.out), "--drawn", str(drawn), "--device", training.device),
        *("--shipped", str(training.shipped)),
        *("--started", str(started), "--deadline", str(deadline)),
    ]
    if plan.most_steps is not None:
        command += ["--most-steps", str(plan.most_steps)]
    if training.only:
        command += ["--only", *training.only]
    return command if training.can_record else [*command, "--eager"]


@dataclass(slots=True)
class _Lane:
    """Process of a lane, started again when it dies or falls silent."""

    name: str
    command: Sequence[str]
    out: Path
    silence_s: float
    starts: int = 0
    started: float = 0.0
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        self.starts += 1
        self.started = time.time()
        with (self.out / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def end(self) -> None:
        _end(self.process)

    def is_silent(self) -> bool:
        path = self.out / f"{self.name}.jsonl"
        said = path.stat().st_mtime if path.is_file() else 0.0
        if said < self.started:
            return time.time() - self.started > _START_S + self.silence_s
        return time.time() - said > self.silence_s

    def state(self) -> int | None:
        """Returns the exit code; None while it runs."""
        return None if self.process is None else self.process.poll()


def _watch_over(lanes: Sequence[_Lane], deadline: float, log: "_Log") -> list[str]:
    """Keeps lanes running until they end or the deadline; returns those that failed."""
    for lane in lanes:
        lane.start()
    left, failed = list(lanes), []
    while left and time.time() < deadline:
        time.sleep(_POLL_S)
        for lane in [lane for lane in left if _needs_care(lane, log)]:
            if lane.state() == 0:
                left.remove(lane)
            elif lane.starts < _MOST_STARTS:
                lane.start()
            else:
                left.remove(lane)
                failed.append(lane.name)
    return failed + [lane.name for lane in left if lane.state() != 0]


def _wait_for_arrays(drawing: subprocess.Popen[bytes], drawn: Path, out: Path) -> None:
    while not (drawn / SIZES_FILE).is_file():
        if drawing.poll() is not None:
            lines = (out / "drawing.log").read_text(errors="replace").strip().splitlines()
            raise UsageError(lines[-1] if lines else f"drawing ended with {drawing.returncode}")
        time.sleep(_POLL_S)


def _needs_care(lane: _Lane, log: "_Log") -> bool:
    """Tells whether a lane has ended; one that fell silent is killed."""
    if lane.state() is None and lane.is_silent():
        log.line({"event": "silent", "lane": lane.name})
        lane.end()
    if lane.state() is None:
        return False
    if lane.state() != 0:
        log.line({"event": "died", "lane": lane.name, "code": lane.state(), "start": lane.starts})
    return True


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_EXPORT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


@dataclass(frozen=True, slots=True)
class _Log:
    out: Path
    started: float

    def line(self, line: dict[str, Any]) -> None:
        seconds = round(time.time() - self.started, 1)
        with (self.out / "launcher.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seconds": seconds} | line) + "\n")
        print(f"launcher {seconds:.0f}s {json.dumps(line)}", flush=True)
