"""A stand-in for an editor on a GPU: it takes a given time for a batch, and notes when."""

import os
import time
from pathlib import Path
from typing import Literal, NamedTuple

from overpaint.operators.negative import Negative
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT
from pydantic import Field

Work = Literal["sleep", "torch"]
"""`sleep`: waits, as for a GPU; `torch`: multiplies matrices on one thread of the CPU."""

_SIDE = 512


class Batch(NamedTuple):
    """The time that a model took for a batch.

    Attributes:
        start_s: seconds since the epoch, as the times of files are.
        end_s: likewise.
    """

    start_s: float
    end_s: float


def take_time(work: Work, batch_ms: float, log: str) -> None:
    """Takes the time of a batch, and appends when to a log.

    Args:
        work: how the time is spent; `torch` takes it of the thread's own time on the CPU.
        batch_ms: time for a batch, in milliseconds.
        log: local file.
    """
    start = time.time()
    if work == "sleep":
        time.sleep(batch_ms / 1000)
    else:
        _multiply(batch_ms / 1000)
    line = f"{start} {time.time()}\n".encode()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _multiply(seconds: float) -> None:
    import torch

    torch.set_num_threads(1)
    matrix = torch.eye(_SIDE)
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        matrix = matrix @ matrix


def batches(log: Path) -> list[Batch]:
    """Reads when each batch was at work."""
    return [Batch(*map(float, line.split())) for line in log.read_text().splitlines()]


class Busy(Negative):
    """Inverts the colours in the time that a model would take, and notes when."""

    work: Work = Field(default="sleep", json_schema_extra=NOT_IN_FINGERPRINT)
    """How the time is spent."""
    log: str = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Local file to which the times of the calls are appended."""

    def wait(self) -> None:
        """Takes the time of a batch."""
        take_time(self.work, self.batch_ms, self.log)
