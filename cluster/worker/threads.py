"""Threads of an actor: one calls the models, the others work beside it.

An actor has two tasks at a time, each in a thread of its own, and a task a few batches of a stage:

    models    | infer 1 | infer 2 | infer 3 | infer 4 |      one thread, which loads them too
    task 1     prepare 3, answer 1, prepare 4, answer 2      decode, frame, paste, encode
    task 2     fetch, prepare 1 ... waits                    the older task goes first

Only the thread of the models makes calls that use one; so nothing that a model does can depend on
what happens beside it.
"""

import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from queue import PriorityQueue
from typing import Any, ParamSpec, TypeVar

from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.images import LARGE_PX
from overpaint.pipeline.operator import Calls

P = ParamSpec("P")
T = TypeVar("T")
ItemT = TypeVar("ItemT")

TASKS_AT_ONCE = 2
"""Tasks that an actor has under way."""
_BATCHES_AT_ONCE = 3
"""Batches of a stage that a task has under way: one is prepared, one runs, one is answered."""
_MAX_HELPERS = 8
_PIXELS_AT_ONCE = 2 * LARGE_PX


class ModelThread:
    """The one thread that loads and calls models; calls of the older task go first."""

    def __init__(self) -> None:
        self._calls: PriorityQueue[_Call] = PriorityQueue()
        self._numbers = count()
        self._is_closed = self._is_busy = False
        self._thread = threading.Thread(target=self._serve, name="models", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Calls that wait for the one under way."""
        return self._calls.qsize()

    def call(self, turn: "Turn", step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
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
                call.run()
                self._is_busy = False
                del call  # it holds what the step was called with
        except KeyboardInterrupt:
            return  # closed as a call ended

    def _refuse_all(self) -> None:
        while not self._calls.empty():
            self._calls.get().future.set_exception(StoppedError("the run was stopped"))


@dataclass(order=True, slots=True)
class _Call:
    order: int
    number: int
    step: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)
    turn: "Turn" = field(compare=False)
    since: float = field(compare=False, default_factory=time.perf_counter)

    def run(self) -> None:
        self.turn.add(self.since - time.perf_counter())
        try:
            self.future.set_result(self.step())
        except BaseException as error:  # noqa: BLE001  raised again where the call was made
            self.future.set_exception(error)


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


class Helpers:
    """The threads of an actor beside that of its models."""

    def __init__(self) -> None:
        num_cpus = len(os.sched_getaffinity(0))
        self._batches = ThreadPoolExecutor(
            TASKS_AT_ONCE * _BATCHES_AT_ONCE, thread_name_prefix="batch"
        )
        self._rows = ThreadPoolExecutor(
            min(_MAX_HELPERS, max(2, num_cpus)), thread_name_prefix="beside"
        )
        self._pixels = Share(_PIXELS_AT_ONCE)

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT]) -> list[T]:
        """Calls a function for each batch, a few at a time; returns the results in order."""
        return list(map_ahead(self._batches, call, batches, _BATCHES_AT_ONCE))

    def rows(self, call: Callable[[ItemT], T], rows: Iterable[ItemT], pixels: int) -> list[T]:
        """Calls a function for each row, several at a time; returns the results in order.

        Args:
            call: called for each row.
            rows: what it is called with.
            pixels: pixels of the largest picture: few large ones are worked on at a time, so that
                memory is bounded.
        """

        def call_in_share(row: ItemT) -> T:
            with self._pixels.taken(pixels):
                return call(row)

        return list(self._rows.map(call_in_share, rows))

    def close(self) -> None:
        """Ends the threads, after what is under way."""
        for pool in (self._batches, self._rows):
            pool.shutdown(cancel_futures=True)


class Lane(Calls):
    """Calls of one task in one stage: here one after the other, in the caller's thread.

    Args:
        turn: place of the task, and the stage's clock.
    """

    def __init__(self, turn: Turn | None = None) -> None:
        self.turn = turn or Turn()

    def for_stage(self, pixels: int) -> "Lane":
        """Returns the task's lane through a stage.

        Args:
            pixels: pixels of the largest picture of the task.
        """
        return type(self)(Turn(self.turn.order, pixels))

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT]) -> list[T]:
        """Calls a function for each batch; returns the results in order."""
        return [call(batch) for batch in batches]


class ActorLane(Lane):
    """Calls of one task in one stage, in the threads of an actor.

    Args:
        turn: place of the task, and the stage's clock.
        models: thread of the models.
        helpers: threads beside it.
    """

    def __init__(self, turn: Turn, models: ModelThread, helpers: Helpers) -> None:
        super().__init__(turn)
        self._models, self._helpers = models, helpers

    def for_stage(self, pixels: int) -> "ActorLane":
        """Returns the task's lane through a stage."""
        return ActorLane(Turn(self.turn.order, pixels), self._models, self._helpers)

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT]) -> list[T]:
        """Calls a function for each batch, a few at a time."""
        return self._helpers.batches(call, batches)

    def model(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a step in the thread of the models."""
        return self._models.call(self.turn, step, *args, **kwargs)

    def beside(self, step: Callable[[ItemT], T], items: Iterable[ItemT]) -> list[T]:
        """Calls a step for each item in the threads beside the models."""
        return self._helpers.rows(step, items, self.turn.pixels)


class Share:
    """A number of places that users of different weight share; a heavy one gets at most all.

    Args:
        places: number of places.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, places: int) -> Generator[None]:
        """Waits for places, and takes them while its body runs.

        Args:
            places: number of places; more than there are stand for all of them.
        """
        places = min(places, self._places)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + places <= self._places)
            self._taken += places
        try:
            yield
        finally:
            with self._changed:
                self._taken -= places
                self._changed.notify_all()


def map_ahead(
    pool: Executor, call: Callable[[ItemT], T], items: Iterable[ItemT], at_once: int
) -> Iterator[T]:
    """Yields what a function returns for each item, in order, with a few calls under way.

    Args:
        pool: threads that make the calls.
        call: called for each item.
        items: what it is called with; taken as the calls are made.
        at_once: most calls under way.
    """
    under_way: deque[Future[T]] = deque()
    try:
        for item in items:
            if len(under_way) == at_once:
                yield under_way.popleft().result()
            under_way.append(pool.submit(call, item))
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
