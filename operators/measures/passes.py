"""Means over several passes of a judge that samples its answers."""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

LMM_STD = c.score(
    "lmm_std", "the standard deviation of lmm_score over the passes that could be read"
)
LMM_PASSES = Column("lmm_passes", pa.int32(), "the passes that could be read")
_SCORE = "lmm_score"


def averaged(passes: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> dict[str, Any]:
    """Returns the values of several passes as one: means of figures, and the first one's words.

    Args:
        passes: values of `columns` in each pass that could be read; null where there are none.
        columns: columns of the judge's form.
    """
    scores = [one[_SCORE] for one in passes if one[_SCORE] is not None]
    values = {column.name: _one([each[column.name] for each in passes]) for column in columns}
    spread = pstdev(scores) if scores else None
    return {**values, LMM_STD.name: spread, LMM_PASSES.name: len(passes)}


def _one(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    is_figure = bool(known) and all(isinstance(value, float) for value in known)
    return fmean(known) if is_figure else next(iter(known), None)
