"""One run that is to be disturbed: its command, its log of calls, and its progress.

Everything is as a user would have it: the command in a process of its own, Ray, and a store.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from overpaint.jobs.faults.operator import Call, Trouble, calls
from overpaint.jobs.faults.proxy import Proxy
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import join

Images = Literal["objects", "shards"]
ACTORS, TASK_ROWS, TASKS_IN_FLIGHT = 2, 4, 2
BOUND = ACTORS * TASKS_IN_FLIGHT * TASK_ROWS
"""Number of rows that may be done again after a fault."""
MAX_RUNS = 5
_DEADLINE_S = 400
_RECIPE = """\
name = "faults"
[[stage]]
operator = "overpaint.jobs.faults.operator:Traced"
name = "traced"
group = "all"
batch_size = 2
log = "{log}"
troubles = {{ {troubles} }}
[group.all]
num_cpus = 1
actors = [{actors}, {actors}]
[limits]
max_attempts = 2
row_timeout_s = {row_timeout_s}
task_rows = {task_rows}
[output]
images = "{images}"
"""


class FaultError(RuntimeError):
    """A disturbed run that did what it should not; one sentence."""


@dataclass
class Trial:
    """A run that is to be disturbed, and all that a fault may change of it.

    Attributes:
        folder: empty folder for the trial's own files.
        input_folder: local folder with the drawn input.
        store_uri: empty folder or prefix of the store.
        at: share of the rows at which the fault strikes, 0 to 1.
        fault_s: duration of a fault that passes, in seconds.
        images: how the run keeps pictures: objects or shards.
        proxy: proxy in front of the store; None for a local disk.
        input_uri: input of the run.
        output: run folder.
        address: address of the Ray cluster; None for a local one of the run's own.
        row_timeout_s: time limit of a row, in seconds.
        troubles: trouble that the operator makes at the rows of some sources, by source.
        must_fail: error codes of the rows that fail by the nature of the fault, by source.
        may_fail: sources of which some rows fail, with any code.
        exit_codes: exit codes of the commands so far.
        cleanup: what is to be undone once the outcome is known.
    """

    folder: Path
    input_folder: Path
    store_uri: str
    at: float
    fault_s: float = 20.0
    images: Images = "objects"
    proxy: Proxy | None = None
    input_uri: str = ""
    output: str = ""
    address: str | None = None
    row_timeout_s: float = 60.0
    troubles: dict[str, Trouble] = field(default_factory=dict[str, Trouble])
    must_fail: dict[str, str] = field(default_factory=dict[str, str])
    may_fail: set[str] = field(default_factory=set[str])
    exit_codes: list[int] = field(default_factory=list[int])
    cleanup: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.output = self.output or join(self.store_uri, "run")
        self.input_uri = self.input_uri or str(self.input_folder)

    @property
    def calls(self) -> list[Call]:
        """Every row of every call so far, by the operator's own log."""
        return calls(self.folder / "calls.log")

    @property
    def sources(self) -> list[str]:
        """The `source_uri` of every row, in the order of the plan."""
        column = read_input(str(self.input_folder)).table["source_uri"]
        return [str(uri) for uri in column.to_pylist()]

    @property
    def source_at(self) -> str:
        """The source at the share where the fault strikes: the last of its task."""
        task = int(self.at * len(self.sources)) // TASK_ROWS
        return self.sources[(task + 1) * TASK_ROWS - 1]

    def copy_input(self) -> Storage:
        """Copies the input into the store, where a fault may spoil it."""
        copy = Storage(join(self.store_uri, "input"))
        drawn = Storage(str(self.input_folder))
        names = ["rows.jsonl", *drawn.list("images")]
        drawn.map(lambda name: copy.write(name, drawn.read(name)), names)
        self.input_uri = copy.uri
        return copy

    def start(self) -> subprocess.Popen[str]:
        """Starts the command; its output goes to a file."""
        return self._start(self._command())

    def _command(self) -> list[str]:
        command = ["run", str(self._recipe()), "--input", self.input_uri, "--output", self.output]
        if self.address is None:
            return [*command, "--num-cpus", str(ACTORS + 2)]
        # The trial's own cluster, for as long as the trial takes.
        return [*command, "--address", self.address, "--insecure-cluster"]

    def _recipe(self) -> Path:
        troubles = ", ".join(f'"{uri}" = "{trouble}"' for uri, trouble in self.troubles.items())
        path = self.folder / "faults.toml"
        path.write_text(
            _RECIPE.format(
                log=self.folder / "calls.log",
                troubles=troubles,
                actors=ACTORS,
                task_rows=TASK_ROWS,
                row_timeout_s=self.row_timeout_s,
                images=self.images,
            )
        )
        return path

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "overpaint.jobs.cli", *arguments]
        small = {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(150 * 2**20)}
        with (self.folder / "output.txt").open("a") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, **small},
            )
        self.cleanup.callback(_end, process)
        return process

    def wait_for_share(self, run: subprocess.Popen[str]) -> None:
        """Waits until the share of the rows at which the fault strikes has been called.

        Raises:
            FaultError: the run ended before, or came to a stand.
        """
        wanted = int(self.at * len(self.sources))
        deadline = time.monotonic() + _DEADLINE_S
        while len({call.key for call in self.calls}) < wanted:
            if run.poll() is not None:
                raise FaultError(
                    f"the run ended with {run.returncode} before the fault: {self.log_tail}"
                )
            if time.monotonic() > deadline:
                raise FaultError(f"the run came to a stand before the fault: {self.log_tail}")
            time.sleep(0.01)  # between two reads of the log

    def wait(self, run: subprocess.Popen[str]) -> int:
        """Waits for a run to end, and keeps its exit code."""
        code = run.wait(_DEADLINE_S)
        self.exit_codes.append(code)
        return code

    def run_until_done(self) -> None:
        """Runs the command until it exits with 0.

        Raises:
            FaultError: the command did not after several times.
        """
        while not self.exit_codes or self.exit_codes[-1] != 0:
            if len(self.exit_codes) >= MAX_RUNS:
                raise FaultError(f"not done after {MAX_RUNS} runs: {self.log_tail}")
            self.wait(self.start())

    def run_undisturbed(self) -> None:
        """Runs the command once in one process, without Ray and without a disturbance."""
        command = [*self._command()[:6], "--no-ray"]
        if self.wait(self._start(command)) != 0:
            raise FaultError(f"the undisturbed run failed: {self.log_tail}")

    @property
    def log_tail(self) -> str:
        """The end of the command's output."""
        return (self.folder / "output.txt").read_text(errors="replace")[-1500:]


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def draw_input(folder: Path, rows: int) -> None:
    """Draws the images that trials go over."""
    write_dataset(folder, rows=rows, seed=11)
