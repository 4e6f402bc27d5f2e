"""Rows that kill their worker: counted in storage, so that each is tried a bounded number of times.

Before a task runs, a marker is left in the run folder; it is taken away when the task is through. A
task that finds an earlier marker is suspect: some row of it may have ended the process (a segfault,
the kernel's memory killer, a hang cut short). Its rows then run one at a time, each with a marker
of its own, and a row with too many of those fails alone. Markers outlive actors and drivers, and
those of a row that was given up stay: two such rows in a task must not revive each other.
"""

import os
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from overpaint.pipeline.runs.folder import WORK
from overpaint.pipeline.runs.manifest import result_name
from overpaint.pipeline.storage.store import Storage

_EXIT_CODE = 70


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of one group of a run.

    Args:
        storage: the run folder.
        group: whose attempts.
        row_timeout_s: how long a row may take; a task as long as all of its rows may.
    """

    storage: Storage
    group: str
    row_timeout_s: float

    @contextmanager
    def of_task(self, keys: Sequence[str]) -> Generator[int]:
        """Yields how many earlier attempts at these rows did not come through."""
        with self._marked(f"task-{result_name(keys)}", len(keys)) as earlier:
            yield earlier

    @contextmanager
    def of_row(self, key: str) -> Generator[None]:
        """An attempt at this row alone."""
        with self._marked(f"row-{key}", 1):
            yield

    def deaths(self, key: str) -> int:
        """How many attempts at this row alone did not come through."""
        return len(self.storage.list(f"{self._folder}/row-{key}"))

    def suspects(self, keys: Sequence[str]) -> set[str]:
        """Those of the rows that an earlier attempt at them alone did not come through."""
        left = {path.split("/")[-2] for path in self.storage.list(self._folder)}
        return {key for key in keys if f"row-{key}" in left}

    @property
    def _folder(self) -> str:
        return f"{WORK}/attempts/{self.group}"

    @contextmanager
    def _marked(self, name: str, num_rows: int) -> Generator[int]:
        folder = f"{self._folder}/{name}"
        earlier = self.storage.list(folder)
        self.storage.write(f"{folder}/{len(earlier)}", b"")
        try:
            with _deadline(self.row_timeout_s * num_rows, name):
                yield len(earlier)
        except BaseException:
            # What was raised ended no process: a full disk must not count against a row.
            self.storage.remove([f"{folder}/{len(earlier)}"])
            raise
        self.storage.remove([*earlier, f"{folder}/{len(earlier)}"])


@contextmanager
def _deadline(seconds: float, name: str) -> Generator[None]:
    """Ends the process when its body takes longer: a hung model cannot be interrupted otherwise."""
    timer = threading.Timer(seconds, end_process, (f"{name} took longer than {seconds:g} s",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_process(reason: str) -> None:
    """Ends this process at once, as a crash would.

    Ray replaces an actor that crashed and gives its task out again; one that exits in an orderly
    way is never replaced.
    """
    sys.stderr.write(f"overpaint: the worker ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
