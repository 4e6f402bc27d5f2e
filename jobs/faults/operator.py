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
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import Picture, decode, encode, encode_mask
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT, Answer, Kind, NewColumns, Operator
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


class Traced(Operator[None]):
    """Inverts the colours, measures them, and makes trouble at the rows of some sources.

    The trouble is not part of any key, so that a disturbed run and an undisturbed one can be
    compared byte for byte.
    """

    kind: ClassVar[Kind] = "edit"

    batch_size: int = Field(default=2, ge=1)
    """Rows in one call."""
    batch_ms: float = Field(default=100.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Duration of a call, in milliseconds."""
    log: str = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Local file that every row of every call is appended to."""
    troubles: dict[str, Trouble] = Field(default={}, json_schema_extra=NOT_IN_FINGERPRINT)
    """Trouble to make at the rows of some sources, by `source_uri`."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, its URI and the row's key."""
        return (c.SOURCE_IMAGE, c.SOURCE_URI, c.KEY)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The negative, its lightness, and a mask of its light pixels."""
        return (c.EDITED_IMAGE, LIGHTNESS, c.MASK_IMAGE, c.MASK_SOURCE)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Logs the rows, makes the trouble that is due, then edits each row."""
        _log(Path(self.log), [row["key"] for row in rows])
        time.sleep(self.batch_ms / 1000)
        return [self._edited(row, self.troubles.get(row["source_uri"])) for row in rows]

    def _edited(self, row: Row, trouble: Trouble | None) -> NewColumns:
        _cause(trouble)
        picture = Picture(255 - decode(row["source_image"]).rgb)
        lightness = math.nan if trouble == "nan" else float(picture.rgb.mean()) / 255
        light = np.where(picture.rgb[..., 0] > _LIGHT, np.uint8(255), np.uint8(0))
        return {
            "edited_image": encode(picture),
            "lightness": lightness,
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
