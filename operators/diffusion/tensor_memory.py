"""Bytes of the tensors that calls make, on any device, PyTorch's meta device among them."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class TensorMemory(TorchDispatchMode):
    """Mode that counts the storages that its body makes, until they are let go.

    Attention is taken to make its answer alone, as kernels of GPUs do, and no matrix of scores.

    Example:
        >>> with TensorMemory() as memory:
        ...     network(sample)
        >>> memory.peak, memory.total
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        """The most bytes that were there at once."""
        self.total = 0
        """The bytes of all that was made."""
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._around = ExitStack()

    def __enter__(self) -> Self:
        self._around.enter_context(torch.no_grad())
        self._around.enter_context(_FusedAttention())
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._around.close()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls an operation, and counts what it makes."""
        for tensor in _tensors([*args, *(kwargs or {}).values()]):
            self._known.add(tensor.untyped_storage())  # a view of a weight is nothing new
        answer = func(*args, **(kwargs or {}))
        for tensor in _tensors([answer]):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                self._count(storage.nbytes())
                weakref.finalize(storage, self._count, -storage.nbytes())
        return answer

    def _count(self, num_bytes: int) -> None:
        self._now += num_bytes
        self.total += max(num_bytes, 0)
        self.peak = max(self.peak, self._now)


class _FusedAttention(TorchFunctionMode):
    """Mode in which attention makes its answer and nothing else."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | dict(given)
            query, value = named["query"], named["value"]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **given)


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
