"""The operator of the trials: a light edit that keeps a log of its own of every call."""

import ctypes
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from overpaint.operators.negative import Negative, negative_of
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import encode_mask
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT, Answer, Kind, NewColumns
from pydantic import Field

Trouble = Literal["segfault", "os_exit", "sys_exit", "hang", "nan"]
LIGHTNESS = c.score("lightness", "the mean of the edited pixels, 0 to 1")
_FOREVER_S = 3600
_LIGHT = 127


class Call(NamedTuple):
    """A row in a model call.

    Attributes:
        key: key of the row.
        pid: process that was called.
    """

    key: str
    pid: int


class Traced(Negative):
    """Inverts the colours, measures them, and makes trouble for some sources.

    Trouble changes no key, so that a disturbed run and its undisturbed twin can be compared byte
    for byte.
    """

    kind: ClassVar[Kind] = "edit"

    batch_size: int = Field(default=2, ge=1)
    """Rows in one call."""
    batch_ms: float = Field(default=100.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Time that a call waits, in milliseconds."""
    log: str = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Local file to which every row of every call is appended."""
    troubles: dict[str, Trouble] = Field(default={}, json_schema_extra=NOT_IN_FINGERPRINT)
    """Trouble to make at the rows of some sources, by `source_uri`."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source and its name, and the row's key."""
        return (*super().inputs, c.SOURCE_URI, c.KEY)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The negative, its lightness, and a mask of its light pixels."""
        return (*super().outputs, LIGHTNESS, c.MASK_IMAGE, c.MASK_SOURCE)

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Logs the rows, waits, makes the trouble that is due, and edits each row."""
        _log(Path(self.log), [row["key"] for row in rows])
        return super().run(rows, model)

    def edit(self, row: Row) -> NewColumns:
        """Returns the new columns of one row, after the trouble that is due."""
        trouble = self.troubles.get(row["source_uri"])
        _cause(trouble)
        pixels = negative_of(row).rgb
        light = np.where(pixels[..., 0] > _LIGHT, np.uint8(255), np.uint8(0))
        return {
            **super().edit(row),
            LIGHTNESS.name: math.nan if trouble == "nan" else float(pixels.mean()) / 255,
            "mask_image": encode_mask(light),
            "mask_source": "light",
        }


def _log(log: Path, keys: Sequence[str]) -> None:
    """Appends the rows of a call in one write, so that lines of several processes never mix."""
    lines = "".join(f"{key} {os.getpid()}\n" for key in keys)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, lines.encode())
    finally:
        os.close(descriptor)


def calls(log: Path) -> list[Call]:
    """Reads every row of every call so far, in order."""
    if not log.exists():
        return []
    pairs = (line.split() for line in log.read_text().splitlines())
    return [Call(key, int(pid)) for key, pid in pairs]


def _cause(trouble: Trouble | None) -> None:
    if trouble == "segfault":
        ctypes.string_at(0)
    elif trouble == "os_exit":
        os._exit(1)
    elif trouble == "sys_exit":
        sys.exit(1)
    elif trouble == "hang":
        time.sleep(_FOREVER_S)
