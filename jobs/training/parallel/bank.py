"""Banks: drawn examples on the device, which grow while drawing goes on.

The drawing processes write arrays in chunks; a bank copies the chunks that are done. Only the
first `ready` examples are picked, a number that stays on the device, so that a recorded step sees
it grow.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.training.parallel.drawing import CHUNK, SIZES_FILE
from torch import Tensor

_POLL_S = 0.05
_COPIED_AT_ONCE = 64 * CHUNK
Encode = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Function from the fields of some examples, on the device, to those that a bank keeps."""


class Bank:
    """Examples of one kind, on a device.

    Args:
        folder: folder of the drawn arrays.
        kind: name of the kind.
        device: device of the bank.
        fields: names of the drawn fields to read; None for all.
        encode: function from drawn fields to those that are kept; None keeps what is drawn.

    Attributes:
        fields: tensors by name, one row for each example; rows from `ready` on are not set yet.
        ready: number of examples that may be picked, a float scalar on the device.
        num_ready: the same number on the host.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        device: torch.device,
        *,
        fields: tuple[str, ...] | None = None,
        encode: Encode | None = None,
    ) -> None:
        self._arrays = _open_arrays(folder, kind)
        self._done = self._arrays.pop("done")
        if fields is not None:
            self._arrays = {name: self._arrays[name] for name in fields}
        self._encode = encode
        self._device = device
        self.size = len(next(iter(self._arrays.values())))
        self.fields: dict[str, Tensor] = {}
        self.ready = torch.zeros((), device=device)
        self.num_ready = 0

    def pull(self, at_least: int = 0) -> int:
        """Copies what has been drawn since the last call.

        Args:
            at_least: number of examples to wait for; at most the size of the bank.

        Returns:
            The number of examples that are ready.
        """
        while True:
            self._copy(self._num_drawn())
            if self.num_ready >= min(at_least, self.size):
                return self.num_ready
            time.sleep(_POLL_S)

    def pick(self, size: int) -> Tensor:
        """Returns random positions of ready examples, drawn on the device."""
        uniform = torch.rand(size, device=self._device)
        return torch.minimum((uniform * self.ready).long(), self.ready.long() - 1)

    def _num_drawn(self) -> int:
        num_chunks = int(np.argmin(np.append(self._done, 0)))
        return min(num_chunks * CHUNK, self.size)

    def _copy(self, stop: int) -> None:
        for start in range(self.num_ready, stop, _COPIED_AT_ONCE):
            rows = slice(start, min(start + _COPIED_AT_ONCE, stop))
            drawn = {name: _to_device(a[rows], self._device) for name, a in self._arrays.items()}
            with torch.no_grad():
                kept = drawn if self._encode is None else self._encode(drawn)
            for name, values in kept.items():
                self._field(name, values)[rows].copy_(values)
            self.num_ready = rows.stop
            self.ready.fill_(float(rows.stop))

    def _field(self, name: str, like: Tensor) -> Tensor:
        if name not in self.fields:
            shape = (self.size, *like.shape[1:])
            self.fields[name] = torch.zeros(shape, dtype=like.dtype, device=self._device)
        return self.fields[name]


def _to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)


def _open_arrays(folder: Path, kind: str) -> dict[str, NDArray[Any]]:
    sizes = folder / SIZES_FILE
    while not sizes.is_file():
        time.sleep(_POLL_S)
    if kind not in json.loads(sizes.read_text())["sizes"]:
        raise ValueError(f"{folder} has no drawn examples of the kind {kind!r}")
    paths = folder.glob(f"{kind}.*.npy")
    return {path.name.split(".")[1]: np.load(path, mmap_mode="r") for path in paths}
