"""The one thread of an actor that loads and calls models.

Nothing that a model does depends on what happens beside it: its calls come one after the other, in
the thread that loaded it, and those of the older task first.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from queue import PriorityQueue
from typing import Any, ParamSpec, TypeVar

from overpaint.cluster.worker.deadline import watch
from overpaint.pipeline.errors import StoppedError

_STOPPED = "the run was stopped"

P = ParamSpec("P")
T = TypeVar("T")


class Turn:
    """A task's place in the queue for the models, and the time that one of its stages takes.

    Args:
        order: the lower, the sooner.
        pixels: pixels of the largest picture of the task.
    """

    def __init__(self, order: int = 0, pixels: int = 0) -> None:
        self.order = order
        self.pixels = pixels
        self.seconds = 0.0
        """Seconds of work, all threads together, without waiting for models."""
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Adds seconds of work; less than none where work had to wait."""
        with self._lock:
            self.seconds += seconds

    @contextmanager
    def working(self) -> Generator[None]:
        """Adds the time that its body takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(time.perf_counter() - start)


class ModelThread:
    """The one thread that loads and calls models; calls of the older task go first."""

    def __init__(self) -> None:
        self._calls: PriorityQueue[_Call] = PriorityQueue()
        self._numbers = count()
        self._is_closed = self._is_busy = False
        self.busy_s = 0.0
        """Seconds in which the thread was at work."""
        watch()  # its thread must not be started by the one that may be interrupted
        self._thread = threading.Thread(target=self._serve, name="models", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Calls that wait for the one under way."""
        return self._calls.qsize()

    def call(self, turn: Turn, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a step in the thread, and returns its result or raises its error.

        Args:
            turn: place of the task among others; it learns how long the call has waited.
            step: what is called.
            args: positional arguments of the step.
            kwargs: named arguments of the step.

        Raises:
            StoppedError: the thread has been closed.
        """
        future: Future[T] = Future()
        self._calls.put(
            _Call(turn.order, next(self._numbers), lambda: step(*args, **kwargs), future, turn)
        )
        if self._is_closed:
            self._refuse_all()
        try:
            return future.result()
        finally:
            del future  # its error holds this frame, and so whatever tensors the step held

    def check(self) -> None:
        """Checks that the thread is not closed.

        Raises:
            StoppedError: it is.
        """
        if self._is_closed:
            raise StoppedError(_STOPPED)

    def close(self) -> None:
        """Ends the thread: a call under way is interrupted, and those that wait are refused."""
        self._is_closed = True
        if self._is_busy:
            thread = ctypes.c_ulong(self._thread.ident or 0)
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, interrupt)
        self._calls.put(_Call(-1, next(self._numbers), lambda: None, Future(), Turn()))
        self._thread.join()
        self._refuse_all()

    def _serve(self) -> None:
        try:
            while not self._is_closed:
                call = self._calls.get()
                self._is_busy = True
                start = time.perf_counter()
                call.run()
                self.busy_s += time.perf_counter() - start
                self._is_busy = False
                del call  # it holds what the step was called with
        except KeyboardInterrupt:
            return  # closed as a call ended

    def _refuse_all(self) -> None:
        while not self._calls.empty():
            self._calls.get().future.set_exception(StoppedError(_STOPPED))


@dataclass(order=True, slots=True)
class _Call:
    order: int
    number: int
    step: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)
    turn: Turn = field(compare=False)
    since: float = field(compare=False, default_factory=time.perf_counter)

    def run(self) -> None:
        self.turn.add(self.since - time.perf_counter())
        try:
            self.future.set_result(self.step())
        except BaseException as error:  # noqa: BLE001  raised again where the call was made
            self.future.set_exception(error)
