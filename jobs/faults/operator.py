"""The operator of the trials: a light edit that keeps a log of its own of every call."""

import ctypes
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import Picture, decode, encode, encode_mask
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT, Kind, ModelOperator, NewColumns
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


class TracedInput(NamedTuple):
    """A row that is ready for the call.

    Attributes:
        key: key of the row.
        source_uri: source of the row.
        picture: its source, decoded.
    """

    key: str
    source_uri: str
    picture: Picture


class Traced(ModelOperator[None, TracedInput, Picture]):
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
        """The source and its name, the format of the edit, and the row's key."""
        return (c.SOURCE_IMAGE, c.IMAGE_FORMAT, c.SOURCE_URI, c.KEY)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The negative, its lightness, and a mask of its light pixels."""
        return (c.EDITED_IMAGE, LIGHTNESS, c.MASK_IMAGE, c.MASK_SOURCE)

    def load(self) -> None:
        """Loads nothing."""

    def prepare(self, row: Row, model: None) -> TracedInput:
        """Decodes a row's source."""
        del model
        return TracedInput(row["key"], row["source_uri"], decode(row["source_image"]))

    def infer(self, inputs: Sequence[TracedInput], model: None) -> list[Picture]:
        """Logs the rows, waits, makes the trouble that is due, and inverts the colours."""
        del model
        _log(Path(self.log), list(dict.fromkeys(item.key for item in inputs)))
        time.sleep(self.batch_ms / 1000)
        for source_uri in dict.fromkeys(item.source_uri for item in inputs):
            _cause(self.troubles.get(source_uri))
        return [replace(item.picture, rgb=255 - item.picture.rgb) for item in inputs]

    def answer(self, row: Row, item: TracedInput, negative: Picture, model: None) -> NewColumns:
        """Encodes the negative, and measures it."""
        del model
        trouble = self.troubles.get(item.source_uri)
        light = np.where(negative.rgb[..., 0] > _LIGHT, np.uint8(255), np.uint8(0))
        lightness = math.nan if trouble == "nan" else float(negative.rgb.mean()) / 255
        return {
            "edited_image": encode(negative, row["image_format"]),
            LIGHTNESS.name: lightness,
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
