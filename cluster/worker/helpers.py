"""Threads of an actor beside that of its models: they decode, frame, paste, encode and store."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from overpaint.pipeline.images import LARGE_PX

T = TypeVar("T")
ItemT = TypeVar("ItemT")

TASKS_AT_ONCE = 2
"""Tasks that an actor has under way."""
_BATCHES_AT_ONCE = 3
"""Batches of a stage that a task has under way: one is prepared, one runs, one is answered."""
_MAX_THREADS = 8
_PIXELS_AT_ONCE = 2 * LARGE_PX
_WORTH_A_THREAD_PX = 256 * 256
"""Pixels of a picture that takes longer to decode or encode than to hand to another thread."""


class Helpers:
    """The threads of an actor beside that of its models."""

    def __init__(self) -> None:
        num_cpus = len(os.sched_getaffinity(0))
        self._batches = ThreadPoolExecutor(
            TASKS_AT_ONCE * _BATCHES_AT_ONCE, thread_name_prefix="batch"
        )
        self._rows = ThreadPoolExecutor(
            min(_MAX_THREADS, max(2, num_cpus)), thread_name_prefix="beside"
        )
        self._pixels = Share(_PIXELS_AT_ONCE)

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT], pixels: int) -> list[T]:
        """Calls a function for each batch, a few at a time; returns the results in order.

        Args:
            call: called for each batch.
            batches: what it is called with.
            pixels: pixels of the largest picture, 0 where that is not known.
        """
        if 0 < pixels < _WORTH_A_THREAD_PX:
            return [call(batch) for batch in batches]
        return list(map_ahead(self._batches, call, batches, _BATCHES_AT_ONCE))

    def rows(self, call: Callable[[ItemT], T], rows: Iterable[ItemT], pixels: int) -> list[T]:
        """Calls a function for each row, several at a time; returns the results in order.

        Args:
            call: called for each row.
            rows: what it is called with.
            pixels: pixels of the largest picture, 0 where that is not known: small ones are not
                worth a thread, and few large ones are worked on at a time, to bound memory.
        """
        if pixels < _WORTH_A_THREAD_PX:
            return [call(row) for row in rows]

        def call_in_share(row: ItemT) -> T:
            with self._pixels.taken(pixels):
                return call(row)

        return list(self._rows.map(call_in_share, rows))

    def close(self) -> None:
        """Ends the threads, after what is under way."""
        for pool in (self._batches, self._rows):
            pool.shutdown(cancel_futures=True)


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
