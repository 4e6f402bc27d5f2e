"""Poison rows, which crash their worker: counted in storage, so that each is tried a few times.

Each worker process keeps a journal in the run folder: one object, with what it has under way. A
journal that a dead process left names the tasks and rows that may have crashed it (a segfault, the
kernel's memory killer) or hung in it; a process reads the journals of others when it starts, and
Ray takes a task that lost its process to that process's successor. A task with an earlier attempt
runs again without another beside it; one with two runs its rows one at a time, each with an entry
of its own, and a row with too many of those fails alone.

A journal costs one request a task: an entry goes with the next that comes.
"""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from overpaint.cluster.worker.deadline import deadline
from overpaint.pipeline.runs.folder import ATTEMPTS
from overpaint.pipeline.runs.manifest import result_name
from overpaint.pipeline.storage.store import Storage


class Attempts:
    """Attempts of one group of stages at tasks and rows.

    Args:
        storage: storage of the run folder.
        group: name of the group.
        row_timeout_s: seconds that a row may take; rows together may take as long as all of them.
    """

    def __init__(self, storage: Storage, group: str, row_timeout_s: float) -> None:
        self._storage = storage
        self._row_timeout_s = row_timeout_s
        folder = f"{ATTEMPTS}/{group}"
        self._earlier = _entries(storage, folder)
        self._path = f"{folder}/{uuid.uuid4().hex}.json"
        self._under_way: list[str] = []
        self._lock = threading.Lock()

    def crashes_of_task(self, keys: Sequence[str]) -> int:
        """Returns the number of attempts at rows together that crashed their worker."""
        return self._earlier[_task_entry(keys)]

    def crashes_of_row(self, key: str) -> int:
        """Returns the number of attempts at a row alone that crashed their worker."""
        return self._earlier[_row_entry(key)]

    @contextmanager
    def of_task(self, keys: Sequence[str], num_rows: int) -> Generator[None]:
        """Notes an attempt at rows together.

        Args:
            keys: keys of the rows.
            num_rows: number of all rows that share the worker's time.
        """
        with self._noted(_task_entry(keys), num_rows):
            yield

    @contextmanager
    def of_row(self, key: str) -> Generator[None]:
        """Notes an attempt at a row alone."""
        with self._noted(_row_entry(key), 1):
            yield

    @contextmanager
    def _noted(self, entry: str, num_rows: int) -> Generator[None]:
        with self._lock:
            self._under_way.append(entry)
            self._write()
        try:
            with deadline(self._row_timeout_s * num_rows, entry):
                yield
        except BaseException:
            # An exception crashed no process: a full disk must not count against a row.
            with self._lock:
                self._under_way.remove(entry)
                self._write()
            raise
        with self._lock:
            self._under_way.remove(entry)

    def close(self) -> None:
        """Removes the journal: this process ends in an orderly way."""
        self._storage.remove([self._path])

    def _write(self) -> None:
        self._storage.write(self._path, json.dumps(self._under_way).encode())


def _entries(storage: Storage, folder: str) -> Counter[str]:
    """Counts the entries of all journals: a process crashes once, so it counts once for each."""
    journals = storage.map(storage.read, storage.list(folder))
    return Counter(entry for journal in journals for entry in set(json.loads(journal)))


def _task_entry(keys: Sequence[str]) -> str:
    return f"task-{result_name(keys)}"


def _row_entry(key: str) -> str:
    return f"row-{key}"
