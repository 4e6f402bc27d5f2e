"""Calls in a few threads, whose results come in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

_THREADS = min(8, os.cpu_count() or 1)


def in_threads(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yields what calls return, in their order; a few run at a time, and few are ahead."""
    waiting = iter(calls)
    with ThreadPoolExecutor(_THREADS) as pool:
        running: deque[Future[T]] = deque(
            pool.submit(call) for call in islice(waiting, 2 * _THREADS)
        )
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(call) for call in islice(waiting, 1))
            yield result
