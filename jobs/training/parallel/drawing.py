"""Drawing of examples into shared, memory-mapped arrays by forked workers, beside their readers.

A folder holds `<kind>.<field>.npy` for each field of a kind, and `<kind>.done.npy` with a byte for
each chunk of CHUNK examples, 1 as soon as all of its rows are written. `drawing.json`, written
last, tells readers that all files are there. Nothing here imports torch: a process that has used
its threads must not be forked.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import signal
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.training.parallel.kinds import KINDS

CHUNK = 256
SIZES_FILE = "drawing.json"
ORDER: Mapping[str, tuple[float, float]] = {
    "scene": (0.0, 0.25),
    "view": (0.0, 0.25),
    "edit": (0.1, 0.7),
    "pair": (0.3, 0.9),
    "fill": (0.5, 1.0),
    "mask": (0.6, 1.0),
}
"""Begin and end of each kind, as shares of the drawing time."""

_NICENESS = 5
_MOST_ROUNDS = 3
_WARM_SCENES, _WARM_EDITS = 240, 120
_NUMBER = struct.Struct("=i")

log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Consecutive examples of a kind that one worker draws.

    Attributes:
        kind: name of the kind.
        number: position of the chunk; it begins with example `number * CHUNK`.
    """

    kind: str
    number: int


def create_arrays(folder: Path, sizes: Mapping[str, int]) -> None:
    """Creates the empty arrays of some kinds, and `drawing.json` after them.

    Args:
        folder: folder of the arrays, created if it is missing.
        sizes: number of examples of each kind.

    Raises:
        ValueError: a kind is unknown, or its number of examples is below 1.
        OSError: the folder's disk has less space than the arrays need.
    """
    _check_sizes(sizes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIZES_FILE).unlink(missing_ok=True)
    shapes = dict(_array_shapes(sizes))
    for name in shapes:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    _check_space(folder, shapes)
    for name, (shape, dtype) in shapes.items():
        array = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape
        )
        array.flush()
    partial = folder / f"{SIZES_FILE}.{os.getpid()}"
    partial.write_text(json.dumps({"sizes": dict(sizes)}))
    partial.rename(folder / SIZES_FILE)


def draw_all(
    folder: Path,
    sizes: Mapping[str, int],
    num_workers: int,
    order: Mapping[str, tuple[float, float]] = ORDER,
) -> None:
    """Draws every example into the arrays of a folder, in forked workers.

    Chunks that a dead worker left are drawn again, at most twice.

    Args:
        folder: folder with the arrays of `create_arrays`; chunks that are done stay.
        sizes: number of examples of each kind, as the arrays have them.
        num_workers: number of processes that draw.
        order: begin and end of each kind, 0 to 1; a kind that is not named takes all the time.

    Raises:
        ValueError: `num_workers` is below 1, or a begin or an end is out of order.
        RuntimeError: some chunks could not be drawn.
    """
    _check_workers(num_workers)
    chunks = ordered_chunks(sizes, order)
    if num_workers > 1:
        _warm_up()
    codes: list[int | None] = []
    for _ in range(_MOST_ROUNDS):
        missing = _missing_chunks(folder, chunks)
        if not missing:
            return
        if codes:
            log.warning("workers ended with %s; drawing %d chunks again", codes, len(missing))
        codes = _run_workers(folder, missing, num_workers)
    if missing := _missing_chunks(folder, chunks):
        first = ", ".join(f"{chunk.kind} {chunk.number}" for chunk in missing[:5])
        raise RuntimeError(
            f"{folder}: {len(missing)} of {len(chunks)} chunks could not be drawn, "
            f"first {first}; the workers ended with {codes}"
        )


def ordered_chunks(
    sizes: Mapping[str, int], order: Mapping[str, tuple[float, float]]
) -> list[Chunk]:
    """Returns the chunks of all kinds in the order of drawing.

    Raises:
        ValueError: a kind is unknown or has no examples, or its begin and its end are not in order.
    """
    _check_sizes(sizes)
    _check_order(order)
    times: dict[Chunk, float] = {}
    for kind, size in sizes.items():
        first, last = order.get(kind, (0.0, 1.0))
        for number in range(num_chunks(size)):
            share = (number + 0.5) / num_chunks(size)
            times[Chunk(kind, number)] = first + (last - first) * share
    return sorted(times, key=lambda chunk: (times[chunk], chunk))


def num_chunks(size: int) -> int:
    """Returns the number of chunks of some examples; the last one may be smaller."""
    return -(-size // CHUNK)


def _run_workers(folder: Path, chunks: Sequence[Chunk], num_workers: int) -> list[int | None]:
    """Runs workers until the chunks are drawn or no worker lives; returns their exit codes."""
    context = multiprocessing.get_context("fork")
    # A pipe is a queue without a lock that a killed worker could keep.
    read_end, write_end = os.pipe()
    arguments = (folder, chunks, (read_end, write_end), os.getpid())
    workers = [context.Process(target=_work, args=arguments) for _ in range(num_workers)]
    try:
        for worker in workers:
            worker.start()
        os.close(read_end)
        for number in range(len(chunks)):
            os.write(write_end, _NUMBER.pack(number))
    except BrokenPipeError:
        log.warning("every worker has died")
    except BaseException:
        _end_workers(workers)
        raise
    finally:
        os.close(write_end)
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]


def _end_workers(workers: Sequence[ForkProcess]) -> None:
    for worker in workers:
        if worker.pid is not None:
            worker.terminate()


def _work(folder: Path, chunks: Sequence[Chunk], pipe: tuple[int, int], parent: int) -> None:
    """Draws chunks whose positions come out of a pipe, until it is empty or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    read_end, write_end = pipe
    os.close(write_end)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    while os.getppid() == parent and (packed := os.read(read_end, _NUMBER.size)):
        kind, number = chunks[_NUMBER.unpack(packed)[0]]
        if kind not in arrays:
            arrays[kind] = _open_arrays(folder, kind)
        _draw_chunk(arrays[kind], kind, number)


def _draw_chunk(arrays: Mapping[str, NDArray[Any]], kind: str, number: int) -> None:
    fields, draw = KINDS[kind].fields, KINDS[kind].draw
    size = len(arrays[next(iter(fields))])
    for index in range(number * CHUNK, min(size, (number + 1) * CHUNK)):
        example = draw(index)
        for name in fields:
            arrays[name][index] = example[name]
    arrays["done"][number] = 1


def _open_arrays(folder: Path, kind: str) -> dict[str, NDArray[Any]]:
    names = (*KINDS[kind].fields, "done")
    return {name: np.load(folder / f"{kind}.{name}.npy", mmap_mode="r+") for name in names}


def _missing_chunks(folder: Path, chunks: Sequence[Chunk]) -> list[Chunk]:
    kinds = {chunk.kind for chunk in chunks}
    done = {kind: np.load(folder / f"{kind}.done.npy", mmap_mode="r") for kind in kinds}
    return [chunk for chunk in chunks if not done[chunk.kind][chunk.number]]


def _warm_up() -> None:
    """Draws some examples, so that the workers inherit the cut shapes of this process."""
    for index in range(_WARM_SCENES):
        KINDS["scene"].draw(index)
    for index in range(_WARM_EDITS):
        KINDS["edit"].draw(index)


def _array_shapes(
    sizes: Mapping[str, int],
) -> Iterator[tuple[str, tuple[tuple[int, ...], type[np.generic]]]]:
    for kind, size in sizes.items():
        for name, field in KINDS[kind].fields.items():
            yield f"{kind}.{name}", ((size, *field.shape), field.dtype)
        yield f"{kind}.done", ((num_chunks(size),), np.uint8)


def _check_space(
    folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]
) -> None:
    needed = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())
    usage = shutil.disk_usage(folder)
    # Some virtual file systems say nothing of their size.
    if usage.total and needed > usage.free:
        raise OSError(
            f"{folder} has {usage.free:,} bytes free, and the drawn arrays need {needed:,}: "
            "draw fewer examples, or name a folder with more room"
        )


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for kind, size in sizes.items():
        if kind not in KINDS:
            raise ValueError(f"sizes names {kind!r}; the kinds are {', '.join(KINDS)}")
        if size < 1:
            raise ValueError(f"sizes gives {kind} {size} examples; it must be at least 1")


def _check_workers(num_workers: int) -> None:
    if num_workers < 1:
        raise ValueError(f"workers is {num_workers}; it takes at least one to draw")


def _check_order(order: Mapping[str, tuple[float, float]]) -> None:
    for kind, (first, last) in order.items():
        if kind not in KINDS:
            raise ValueError(f"order names {kind!r}; the kinds are {', '.join(KINDS)}")
        if not 0.0 <= first <= last <= 1.0:
            raise ValueError(f"order gives {kind} {first} to {last}; it must rise within 0 to 1")


def _read_sizes(text: str) -> dict[str, int]:
    sizes = _read_json("sizes", text)
    if not all(type(size) is int for size in sizes.values()):
        raise ValueError(f"sizes is {text}; it must be JSON that gives each kind a whole number")
    return sizes


def _read_order(text: str) -> dict[str, tuple[float, float]]:
    order = _read_json("order", text)
    try:
        return {kind: (float(first), float(last)) for kind, (first, last) in order.items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"order is {text}; it must be JSON that gives two numbers a kind"
        ) from None


def _read_json(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {text}; it must be a JSON object, by kind")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Creates the arrays in a folder and draws them, as its command line says."""
    parser = argparse.ArgumentParser(prog="drawing", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="folder of the arrays, such as in /dev/shm")
    parser.add_argument("--sizes", required=True, help='JSON, such as {"scene": 1024}')
    parser.add_argument("--workers", type=int, required=True, help="number of processes")
    parser.add_argument("--order", default=json.dumps(ORDER), help='JSON: {"scene": [0.0, 0.4]}')
    options = parser.parse_args(arguments)
    try:
        sizes, order = _read_sizes(options.sizes), _read_order(options.order)
        _check_workers(options.workers)
        _check_order(order)
        create_arrays(options.folder, sizes)
        draw_all(options.folder, sizes, options.workers, order)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"drawing: {error}")


if __name__ == "__main__":
    main()
