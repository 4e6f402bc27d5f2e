"""An operator with its model in one actor, and what it does when a device runs out of memory.

Before a row fails for it, it goes down a ladder. First what keeps every byte: freed blocks are
given back, then whatever the operator can do without changing an answer (`Operator.relieve`). Where
the recipe allows it, then what can change the last digit: the operator's other ways, and batches of
half the size. A rung that was taken stays taken for as long as the actor lives, and is recorded.
"""

import gc
import logging
import re
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from overpaint.pipeline.columns import Row
from overpaint.pipeline.operator import Answer, Operator

_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory|CUBLAS_STATUS_ALLOC_FAILED", re.I)
log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory for a call."""
    return bool(_OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


class Loaded:
    """A loaded operator.

    Args:
        operator: as the recipe has it.
        model: what it loaded.
        allow_inexact: whether rungs that can change bytes may be taken.
    """

    def __init__(self, operator: Operator[Any], model: Any, *, allow_inexact: bool = False) -> None:
        self.operator = operator
        """With the batch size that is in force."""
        self.model = model
        self.rungs: list[str] = []
        """The rungs taken so far, in order."""
        self._allow_inexact = allow_inexact

    @classmethod
    def load(cls, operator: Operator[Any], *, allow_inexact: bool = False) -> "Loaded":
        """Loads an operator's model, with the operator's number of PyTorch threads."""
        with _torch_threads(operator):
            return cls(operator, operator.load(), allow_inexact=allow_inexact)

    def run(self, rows: Sequence[Row]) -> list[Answer]:
        """Runs the operator on one batch of rows, with its number of PyTorch threads."""
        with _torch_threads(self.operator):
            return self.operator.run(rows, self.model)

    def relieve(self) -> bool:
        """Takes the next rung; False where there is none left."""
        _free_cache()
        rung = self._next_rung()
        if rung is None:
            return False
        log.warning("%s ran out of memory: %s", type(self.operator).__name__, rung)
        self.rungs.append(rung)
        return True

    def _next_rung(self) -> str | None:
        if not self.rungs:
            return "empty_cache"
        rung = self.operator.relieve(self.model, exact=True)
        if rung is None and self._allow_inexact:
            rung = self.operator.relieve(self.model, exact=False) or self._halved()
        return rung

    def _halved(self) -> str | None:
        size = self.operator.batch_size // 2
        if size == 0:
            return None
        self.operator = self.operator.model_copy(update={"batch_size": size})
        return f"batch_size={size}"


def _free_cache() -> None:
    gc.collect()
    # Asked only where a model has imported it: a worker without torch has nothing to free.
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
