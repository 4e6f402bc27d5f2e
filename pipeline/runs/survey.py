"""A pass over the sources of an input, before anything is planned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.bases import sampled_rows
from overpaint.pipeline.runs.grouping import SourceRuns
from overpaint.pipeline.tables.parts import Batch, TableStream


@dataclass(frozen=True, slots=True)
class Survey:
    """Summary of the sources of an input.

    Attributes:
        num_rows: rows of the input.
        sample: sources of some dozens of rows, spread over the input.
        is_grouped: whether the rows of each source stand together.
    """

    num_rows: int
    sample: tuple[str, ...]
    is_grouped: bool


def survey_sources(stream: TableStream, column: str, uri: str) -> Survey:
    """Reads the column of the sources of an input.

    Args:
        stream: rows of the input.
        column: name of the column of sources.
        uri: URI of the input, named in errors.

    Raises:
        UsageError: there are no rows, a source is null, or one is not text.
    """
    num_rows, kept = 0, list[tuple[int, str]]()
    nulls, first_null = 0, ""
    with SourceRuns() as runs:
        try:
            for batch in stream.batches([column]):
                sources = batch.table[column]
                if sources.null_count:
                    first_null = first_null or _first_null(sources, batch)
                    nulls += sources.null_count
                values: list[Any] = sources.to_pylist()
                runs.add(values)
                kept += [(num_rows + place, values[place]) for place in sampled_rows(len(values))]
                num_rows += len(values)
        except pa.ArrowInvalid as error:
            raise UsageError(f"{uri}: {column} holds bytes that are not UTF-8 text") from error
        is_grouped = runs.are_grouped()
    if num_rows == 0:
        raise UsageError(f"{uri}: the input has no rows")
    if nulls:
        raise UsageError(f"{uri}: {column} is null in {nulls} rows, first in {first_null}")
    return Survey(num_rows, _sample(kept, num_rows), is_grouped)


def _first_null(sources: Any, batch: Batch) -> str:
    return batch.place(pc.index(sources.is_null(), value=True).as_py())


def _sample(kept: Sequence[tuple[int, str]], num_rows: int) -> tuple[str, ...]:
    """Returns those of the kept sources that are nearest to rows spread over the input."""
    places = [place for place, _ in kept]
    wanted = sampled_rows(num_rows)
    nearest = [min(range(len(places)), key=_distance_to(row, places)) for row in wanted]
    return tuple(dict.fromkeys(kept[index][1] for index in nearest))


def _distance_to(row: int, places: Sequence[int]) -> Callable[[int], int]:
    return lambda index: abs(places[index] - row)
