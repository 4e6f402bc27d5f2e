"""Kinds of drawn examples: named arrays of fixed shapes, each a pure function of an index."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.scene import SIZE_PX
from overpaint.jobs.training.word_ids import MAX_TOKENS

Arrays = Mapping[str, NDArray[Any]]


class Field(NamedTuple):
    """Array of an example.

    Attributes:
        shape: shape for one example; empty for a number.
        dtype: type of its entries.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]


class Kind(NamedTuple):
    """Kind of drawn examples.

    Attributes:
        draw: function from an index to the example's arrays by name.
        fields: shape and type of each of them.
    """

    draw: Callable[[int], Arrays]
    fields: Mapping[str, Field]


IMAGE = Field((SIZE_PX, SIZE_PX, 3), np.uint8)
MASK = Field((SIZE_PX, SIZE_PX), np.uint8)
COUNT = Field((), np.uint8)
POSITION = Field((), np.int16)


def token_field(*shape: int) -> Field:
    """Returns the field of a table of token ids."""
    return Field((*shape, MAX_TOKENS), np.int16)
