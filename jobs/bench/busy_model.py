"""A stand-in for an editor on a GPU: it takes a given time for a batch, and notes when."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT, Kind, ModelOperator, NewColumns
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


class Busy(ModelOperator[None, Picture, Picture]):
    """Inverts the colours in the time that a model would take."""

    kind: ClassVar[Kind] = "edit"

    batch_size: int = Field(default=4, ge=1)
    """Rows in one call."""
    batch_ms: float = Field(default=1000.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Time of a call, in milliseconds."""
    work: Work = Field(default="sleep", json_schema_extra=NOT_IN_FINGERPRINT)
    """How the time is spent."""
    log: str = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Local file to which the times of the calls are appended."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, and the format in which the run stores images."""
        return (c.SOURCE_IMAGE, c.IMAGE_FORMAT)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The negative."""
        return (c.EDITED_IMAGE,)

    def load(self) -> None:
        """Loads what the work needs."""
        if self.work == "torch":
            import torch

            torch.set_num_threads(1)

    def prepare(self, row: Row, model: None) -> Picture:
        """Decodes a row's source."""
        del model
        return decode(row["source_image"])

    def infer(self, inputs: Sequence[Picture], model: None) -> list[Picture]:
        """Takes its time, and inverts the colours."""
        del model
        take_time(self.work, self.batch_ms, self.log)
        return [replace(picture, rgb=255 - picture.rgb) for picture in inputs]

    def answer(self, row: Row, source: Picture, negative: Picture, model: None) -> NewColumns:
        """Encodes the negative in the run's format."""
        del source, model
        return {"edited_image": encode(negative, row["image_format"])}
