"""Rows of one source together, in the order in which the input first names each source.

Most inputs have them so, or name each source once; a pass over the sources tells, by hashes that
are kept on disk. Others are sorted on disk, so that memory holds some ten thousand rows of any
input, or the rows of one source where these are more.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NUM_SHARES = 64
_HELD_RUNS = 2**20
_BUCKET_RUNS, _MAX_BUCKETS = 2**16, 256
_CHUNK = 2**20
_FIRST_RUN = "__first_run__"
_RUN = np.dtype([("hash", np.int64), ("run", np.int64)])


class _Runs:
    """Numbers of the runs of rows that name the same source, batch by batch."""

    def __init__(self) -> None:
        self.num_runs = 0
        self._last: int | None = None

    def add(self, sources: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Returns the run of each of the next rows, and the runs that begin, with their hashes."""
        hashes = np.fromiter(map(hash, sources), np.int64, len(sources))
        is_start = np.ones(len(hashes), bool)
        is_start[1:] = hashes[1:] != hashes[:-1]
        is_start[0] = self._last is None or hashes[0] != self._last
        runs = np.cumsum(is_start) + (self.num_runs - 1)
        new = np.empty(int(is_start.sum()), _RUN)
        new["hash"], new["run"] = hashes[is_start], runs[is_start]
        self._last = int(hashes[-1])
        self.num_runs += len(new)
        return runs, new


class SourceRuns:
    """Runs of rows that name the same source, by hashes; a context, since files hold many.

    Example:
        >>> with SourceRuns() as runs:
        ...     runs.add(["a", "a", "b"])
        ...     runs.are_grouped()
        True
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._runs = _Runs()
        self._held: list[NDArray[Any]] = []
        self._num_held = 0
        self._shares: list[IO[bytes]] = []

    def __enter__(self) -> "SourceRuns":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, sources: Sequence[Any]) -> None:
        """Adds the sources of the next rows, at least one."""
        _, new = self._runs.add(sources)
        self._held.append(new)
        self._num_held += len(new)
        if self._num_held >= _HELD_RUNS:
            self._spill()

    def _spill(self) -> None:
        """Writes the held runs to files, each with a share of the hashes."""
        if not self._shares:
            self._shares = [
                self._stack.enter_context(tempfile.TemporaryFile(prefix="overpaint-"))  # noqa: SIM115
                for _ in range(_NUM_SHARES)
            ]
        held = self._in_memory()
        shares = held["hash"].view(np.uint64) % np.uint64(_NUM_SHARES)
        for share, file in enumerate(self._shares):
            file.write(held[shares == share].tobytes())
        self._held, self._num_held = [], 0

    def _in_memory(self) -> NDArray[Any]:
        return np.concatenate([np.empty(0, _RUN), *self._held])

    def _parts(self) -> Iterator[NDArray[Any]]:
        """Yields the runs in order of appearance, all of one source in one part."""
        if not self._shares:
            yield self._in_memory()
            return
        self._spill()
        for file in self._shares:
            file.seek(0)
            yield np.frombuffer(file.read(), _RUN)

    def are_grouped(self) -> bool:
        """Tells whether each source has one run."""
        return all(len(np.unique(part["hash"])) == len(part) for part in self._parts())

    def first_runs(self, file: Path) -> NDArray[np.int64]:
        """Returns for each run the first run of its source, as an array in a new file."""
        firsts = np.memmap(file, np.int64, "w+", shape=(self._runs.num_runs,))
        for part in self._parts():
            _, first, inverse = np.unique(part["hash"], return_index=True, return_inverse=True)
            firsts[part["run"]] = part["run"][first][inverse]
        return firsts


def sorted_by_source(
    read: Callable[[], Iterable[pa.Table]], source: str, runs: SourceRuns
) -> Iterator[pa.Table]:
    """Yields rows with those of one source together, sources in order of first appearance.

    Args:
        read: yields all rows, from the first on at each call.
        source: column of the source.
        runs: runs of the sources of these rows.
    """
    with tempfile.TemporaryDirectory(prefix="overpaint-") as folder:
        first_runs = runs.first_runs(Path(folder) / "first_runs")
        bounds = _bounds(first_runs, Path(folder) / "counts")
        files = _distribute(read(), source, first_runs, bounds, Path(folder))
        for file in files:
            with pa.memory_map(str(file)) as data:
                table = pa.ipc.open_stream(data).read_all()
                order: Any = pa.array(np.argsort(table[_FIRST_RUN].to_numpy(), kind="stable"))
                yield table.drop_columns([_FIRST_RUN]).take(order)


def _bounds(first_runs: NDArray[np.int64], file: Path) -> NDArray[np.int64]:
    """Returns the first runs at which buckets of about as many runs begin, but for the first."""
    total = len(first_runs)
    counts = np.memmap(file, np.int64, "w+", shape=(total,))
    for start in range(0, total, _CHUNK):
        np.add.at(counts, first_runs[start : start + _CHUNK], 1)
    size = max(_BUCKET_RUNS, total // _MAX_BUCKETS)
    bounds, before = [np.zeros(0, np.int64)], 0
    for start in range(0, total, _CHUNK):
        sums = before + np.cumsum(counts[start : start + _CHUNK])
        is_full = np.diff(sums // size, prepend=before // size) > 0
        bounds.append(np.flatnonzero(is_full) + start + 1)
        before = int(sums[-1])
    return np.concatenate(bounds)


def _distribute(
    tables: Iterable[pa.Table],
    source: str,
    first_runs: NDArray[np.int64],
    bounds: NDArray[np.int64],
    folder: Path,
) -> list[Path]:
    """Writes rows to a file for each bucket, in their order; returns the files."""
    files = [folder / f"{bucket}.arrow" for bucket in range(len(bounds) + 1)]
    writers: dict[int, Any] = {}
    numbers = _Runs()
    with ExitStack() as stack:
        for table in tables:
            runs, _ = numbers.add(table[source].to_pylist())
            firsts = first_runs[runs]
            buckets = np.searchsorted(bounds, firsts, side="right")
            table = table.append_column(_FIRST_RUN, pa.array(firsts))
            for bucket in np.unique(buckets).tolist():
                if bucket not in writers:
                    writer = pa.ipc.new_stream(str(files[bucket]), table.schema)
                    writers[bucket] = stack.enter_context(writer)
                writers[bucket].write_table(table.filter(pa.array(buckets == bucket)))
    return [files[bucket] for bucket in sorted(writers)]
