"""Work on single rows of a padded batch, done once for each.

A short batch is filled up with its last row: decoding, measuring and encoding that row again for
every place that it fills is time and memory for nothing, and minutes for a large photograph.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from overpaint.pipeline.columns import Row

T = TypeVar("T")


def once_each(call: Callable[..., T], rows: Sequence[Row], *others: Sequence[object]) -> list[T]:
    """`call(row, *others)` for each row of a batch, in order.

    A row that fills several places is asked at the first of them, and the answer stands for all.

    Args:
        call: its answer depends on the row, and on what the batch's model said of it.
        rows: of a batch; those that fill it up are the same object.
        others: more arguments of `call`, one for each row.
    """
    found: dict[int, T] = {}
    for row, *rest in zip(rows, *others, strict=True):
        if id(row) not in found:
            found[id(row)] = call(row, *rest)
    return [found[id(row)] for row in rows]
