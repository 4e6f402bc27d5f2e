"""Cache of drawn examples in memory-mapped arrays, so that training neither draws nor encodes.

A cache is a folder with `<name>.npy` for each array, `texts.jsonl` for the texts, and
`complete.json`, written last. Its content depends on its `draw` function and its size; it is
written once and read by every later run that needs the same examples.
"""

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_CHUNK_EXAMPLES = 64


class Example(NamedTuple):
    """Drawn example.

    Attributes:
        arrays: arrays of a fixed shape, by name.
        texts: JSON values, by name.
    """

    arrays: Mapping[str, NDArray[Any]]
    texts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Examples of one kind, in order.

    Attributes:
        arrays: arrays of all examples, by name; `arrays["image"][i]` belongs to `texts[i]`.
        texts: texts of each example.
    """

    arrays: Mapping[str, NDArray[Any]]
    texts: list[dict[str, Any]]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.texts)


def open_cache(
    folder: Path, draw: Callable[[int], Example], num_examples: int, *, num_processes: int
) -> Cache:
    """Opens the cache in `folder`, and draws it first if it is missing or smaller.

    Args:
        folder: folder of the arrays.
        draw: function from an index to its example; picklable if `num_processes` is above 1.
        num_examples: number of examples; a larger cache is opened as it is.
        num_processes: number of parallel drawing processes.
    """
    complete = folder / "complete.json"
    if complete.is_file() and json.loads(complete.read_text())["num_examples"] >= num_examples:
        return _read(folder)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write(partial, _draw_all(draw, num_examples, num_processes), num_examples)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    log.info("%s: drew %d examples", folder.name, num_examples)
    return _read(folder)


def _draw_all(
    draw: Callable[[int], Example], num_examples: int, num_processes: int
) -> Iterator[Example]:
    if num_processes <= 1:
        yield from map(draw, range(num_examples))
        return
    # spawn: a fork of a process that has used OpenMP threads may hang.
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        yield from pool.imap(draw, range(num_examples), chunksize=_CHUNK_EXAMPLES)


def _write(folder: Path, examples: Iterator[Example], num_examples: int) -> None:
    first = next(examples)
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(num_examples, *array.shape)
        )
        for name, array in first.arrays.items()
    }
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as texts:
        for index, example in enumerate(_chain(first, examples, num_examples)):
            for name, array in example.arrays.items():
                arrays[name][index] = array
            texts.write(json.dumps(dict(example.texts)) + "\n")
    for array in arrays.values():
        array.flush()
    (folder / "complete.json").write_text(json.dumps({"num_examples": num_examples}))


def _chain(first: Example, rest: Iterator[Example], num_examples: int) -> Iterator[Example]:
    yield first
    yield from islice(rest, num_examples - 1)


def _read(folder: Path) -> Cache:
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    with (folder / "texts.jsonl").open(encoding="utf-8") as lines:
        return Cache(arrays=arrays, texts=[json.loads(line) for line in lines])
