"""Operators loaded in an actor, and their fallbacks when a device runs out of memory (OOM).

Before a row fails for lack of memory, fallbacks are tried in order. First those that keep every
byte: the allocator's cache is emptied, then the operator frees what memory it can without changing
an answer (`Operator.free_memory`). Where the recipe allows it, then those that can change the last
digit: the operator's other ways, and batches of half the size. A fallback stays in force for as
long as the actor lives, and is recorded in `stats.json`.
"""

import gc
import logging
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from overpaint.cluster.worker.deadline import deadline
from overpaint.cluster.worker.spans import BatchWork, batch_span
from overpaint.pipeline.columns import Row
from overpaint.pipeline.operator import Answer, Calls, Operator

P = ParamSpec("P")
T = TypeVar("T")
ItemT = TypeVar("ItemT")

_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory|CUBLAS_STATUS_ALLOC_FAILED", re.I)
_log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error says that a device had too little memory for a call."""
    return bool(_OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


class LoadedOperator:
    """An operator with its model.

    Args:
        operator: operator as the recipe has it.
        model: what the operator's `load` returned.
        allow_inexact: whether fallbacks that can change bytes may be used.
        row_timeout_s: seconds that a row may take; a call that takes as long as all rows of its
            batch may ends the process. None sets no limit.
        stage: name of its stage, for those who watch.

    Example:
        >>> loaded = LoadedOperator.load(Caption(batch_size=1))
        >>> loaded.run([{"source_image": data}], Calls())
        [{'caption': 'a small red star'}]
    """

    def __init__(
        self,
        operator: Operator[Any],
        model: Any,
        *,
        allow_inexact: bool = False,
        row_timeout_s: float | None = None,
        stage: str = "",
    ) -> None:
        self.operator = operator
        """The operator, with the batch size that is in force."""
        self.model = model
        self.oom_fallbacks: list[str] = []
        """The fallbacks in force, in order."""
        self._allow_inexact = allow_inexact
        self._row_timeout_s = row_timeout_s
        self._stage = stage or type(operator).__name__
        self._lock = threading.Lock()

    @classmethod
    def load(cls, operator: Operator[Any], **options: Any) -> "LoadedOperator":
        """Loads an operator's model, with the operator's number of PyTorch threads.

        Args:
            operator: operator to load.
            options: named arguments of the class.
        """
        with _torch_threads(operator):
            return cls(operator, operator.load(), **options)

    def run(self, rows: Sequence[Row], calls: Calls) -> list[Answer]:
        """Runs the operator on one batch of rows, its model with its number of PyTorch threads."""
        operator = self.operator
        limit_s = self._row_timeout_s and self._row_timeout_s * len(rows)
        with batch_span(self._stage, getattr(calls, "task", ""), len(rows)) as work:
            return operator.run_by(rows, self.model, _CallsOf(operator, calls, limit_s, work))

    def free_memory(self, num_before: int, calls: Calls) -> bool:
        """Puts the next fallback into force; returns False where none is left.

        Args:
            num_before: number of fallbacks that were in force when memory ran out: where another
                batch has met the same lack, and there are more by now, those are tried first.
            calls: calls what uses the model.
        """
        with self._lock:
            if len(self.oom_fallbacks) > num_before:
                return True
            fallback = calls.model(self._free)
            if fallback is None:
                return False
            _log.warning("%s ran out of memory: %s", type(self.operator).__name__, fallback)
            self.oom_fallbacks.append(fallback)
            return True

    def _free(self) -> str | None:
        _empty_cache()
        return self._next_fallback()

    def _next_fallback(self) -> str | None:
        if not self.oom_fallbacks:
            return "empty_cache"
        fallback = self.operator.free_memory(self.model, exact=True)
        if fallback is None and self._allow_inexact:
            fallback = self.operator.free_memory(self.model, exact=False) or self._halve_batch()
        return fallback

    def _halve_batch(self) -> str | None:
        size = self.operator.batch_size // 2
        if size == 0:
            return None
        self.operator = self.operator.model_copy(update={"batch_size": size})
        return f"batch_size={size}"


class _CallsOf(Calls):
    """Calls of an operator's steps; those that use its model, with its number of threads."""

    def __init__(
        self, operator: Operator[Any], calls: Calls, limit_s: float | None, work: BatchWork
    ) -> None:
        self._operator, self._calls, self._work = operator, calls, work
        self._name = f"a batch of {type(operator).__name__}"
        self._limit_s = limit_s

    def model(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a step that uses the model."""

        def step_in_threads() -> T:
            limit = deadline(self._limit_s, self._name) if self._limit_s else nullcontext()
            with self._work.model_step(), _torch_threads(self._operator), limit:
                return step(*args, **kwargs)

        return self._calls.model(step_in_threads)

    def beside(self, step: Callable[[ItemT], T], items: Iterable[ItemT]) -> list[T]:
        """Calls a step that uses no model."""
        return self._calls.beside(step, items)


def _empty_cache() -> None:
    gc.collect()
    # Only where a model has imported torch: a worker without it has nothing to free.
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _torch_threads(operator: Operator[Any]) -> Generator[None]:
    """Sets PyTorch's CPU threads to the operator's `num_threads` while its body runs.

    The last digit of a sum depends on them, and the operators of a group share a process.
    """
    num_threads: int | None = getattr(operator, "num_threads", None)
    if num_threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    _set_threads(torch, num_threads)
    try:
        yield
    finally:
        _set_threads(torch, before)


def _set_threads(torch: Any, count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
