"""Memory of this process and its children while something runs."""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

import psutil

_SAMPLE_S = 0.5


@contextmanager
def sampled_memory() -> Generator[list[float]]:
    """Samples the private memory of the process tree inside the context, in MiB."""
    samples, done = [_private_mib()], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            samples.append(_private_mib())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _private_mib() -> float:
    me = psutil.Process(os.getpid())
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total / 2**20
