"""Attention in float32 on a CPU: in bf16, forward and backward take two to three times as long."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def cpu_attention_in_float32(device: torch.device) -> Generator[None]:
    """Computes attention in float32, outside autocast, where the device is a CPU.

    Results have the type of the queries again. Backward passes of what was computed in the context
    are in float32 too, wherever they run.
    """
    if device.type != "cpu":
        yield
        return
    with _Float32Attention():
        yield


class _Float32Attention(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query: Tensor = args[0] if args else kwargs["query"]
        with torch.autocast("cpu", enabled=False):
            result = func(
                *(_to_float32(value) for value in args),
                **{name: _to_float32(value) for name, value in kwargs.items()},
            )
        return result.to(query.dtype)


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
