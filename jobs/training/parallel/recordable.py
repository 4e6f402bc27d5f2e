"""A context in which models make no tensor on the CPU, so that a CUDA graph can record them."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def tensors_on(device: torch.device) -> Generator[None]:
    """Creates tensors on a device where the code names none, and scalars without a copy.

    transformers has a few `torch.arange` without a device, and `torch.tensor(0.0)` makes a number
    on the CPU and copies it, which a graph cannot record.
    """
    with torch.device(device), _ScalarsByFilling(device):
        yield


class _ScalarsByFilling(TorchFunctionMode):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and args and isinstance(args[0], bool | int | float):
            dtype = kwargs.get("dtype") or _dtype_of(args[0])
            return torch.full((), args[0], dtype=dtype, device=kwargs.get("device", self._device))
        return func(*args, **kwargs)


def _dtype_of(value: float) -> torch.dtype:
    if isinstance(value, bool):
        return torch.bool
    return torch.int64 if isinstance(value, int) else torch.get_default_dtype()
