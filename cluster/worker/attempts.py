"""Poison rows, which crash their worker: counted in storage, so that each is tried a few times.

Before a task runs, a marker is left in the run folder; it is removed when the task is through. A
task that finds an earlier marker may hold a poison row: one that crashed the process (a segfault,
the kernel's memory killer) or hung in it. Its rows then run one at a time, each with a marker of
its own, and a row with too many of those fails alone. Markers outlive actors and drivers, and those
of a row that was given up stay: two poison rows in a task must not revive each other.
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
    """Attempts of one group of stages at tasks and rows.

    Attributes:
        storage: storage of the run folder.
        group: name of the group.
        row_timeout_s: seconds that a row may take; a task may take as long as all of its rows.
    """

    storage: Storage
    group: str
    row_timeout_s: float

    @contextmanager
    def of_task(self, keys: Sequence[str]) -> Generator[int]:
        """Marks an attempt at rows together; yields the number of earlier ones that crashed.

        Args:
            keys: keys of the rows.
        """
        with self._marked(f"task-{result_name(keys)}", len(keys)) as num_earlier:
            yield num_earlier

    @contextmanager
    def of_row(self, key: str) -> Generator[None]:
        """Marks an attempt at a row alone."""
        with self._marked(f"row-{key}", 1):
            yield

    def crash_count(self, key: str) -> int:
        """Returns the number of attempts at a row alone that crashed the worker."""
        return len(self.storage.list(f"{self._folder}/row-{key}"))

    def suspected_poison(self, keys: Sequence[str]) -> set[str]:
        """Returns the rows of which an attempt at the row alone has crashed the worker."""
        marked = {path.split("/")[-2] for path in self.storage.list(self._folder)}
        return {key for key in keys if f"row-{key}" in marked}

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
            # An exception crashed no process: a full disk must not count against a row.
            self.storage.remove([f"{folder}/{len(earlier)}"])
            raise
        self.storage.remove([*earlier, f"{folder}/{len(earlier)}"])


@contextmanager
def _deadline(seconds: float, name: str) -> Generator[None]:
    """Ends the process when its body takes longer: a hung model cannot be interrupted."""
    timer = threading.Timer(seconds, end_process, (f"{name} took longer than {seconds:g} s",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_process(reason: str) -> None:
    """Ends this process at once, as a crash does.

    Ray replaces an actor that crashed and runs its task again; one that exits in an orderly way is
    never replaced.
    """
    sys.stderr.write(f"overpaint: the worker ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
