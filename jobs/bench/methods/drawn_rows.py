"""Rows of drawn edits of one type, as the stages of a run get them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from overpaint.jobs.papercut.conditions import CONDITIONS
from overpaint.jobs.papercut.dataset import ROWS_FILE, write_dataset
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.runs.planning import plan_parts


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnEdits:
    """Edits of one type.

    Attributes:
        edit_type: type of the edits.
        split: split of the drawn world that the sources show.
        seed: any integer; each gives other edits.
        rows: number of edits; fewer of the same seed are the first of more.
    """

    edit_type: str
    split: Literal["train", "test"]
    seed: int
    rows: int

    def words(self) -> dict[str, str | int]:
        """Returns all that decides the edits, for fingerprints."""
        return {name: getattr(self, name) for name in ("edit_type", "split", "seed", "rows")}


class Drawing:
    """Datasets of drawn edits, each written once into a temporary folder."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self._write = lru_cache(maxsize=None)(self._written)

    def close(self) -> None:
        """Removes what was written."""
        self._folder.cleanup()

    def rows(
        self, edits: DrawnEdits, conditions: Sequence[str], plan: Plan
    ) -> list[dict[str, Any]]:
        """Returns planned rows of some edits, each with its place in the dataset as its seed.

        Args:
            edits: edits to draw.
            conditions: columns that the plan needs beside words and masks.
            plan: plan whose names of columns the rows have.
        """
        folder = self._write(edits, _drawn_conditions(conditions))
        run_input = read_input(str(folder / ROWS_FILE))
        tables = (table for table, _ in plan_parts(plan, run_input))
        planned = [row for table in tables for row in table.to_pylist()]
        order = sorted(planned, key=lambda row: str(row["source_uri"]))
        return [
            {**row, "seed": place, "base_uri": str(folder), "image_format": plan.image_format}
            for place, row in enumerate(order)
        ]

    def _written(self, edits: DrawnEdits, conditions: tuple[str, ...]) -> Path:
        number = self._write.cache_info().currsize
        folder = Path(self._folder.name) / f"{number}-{edits.edit_type}"
        write_dataset(
            folder,
            rows=edits.rows,
            seed=edits.seed,
            edit_types=[edits.edit_type],
            split=edits.split,
            conditions=conditions,
        )
        return folder


def _drawn_conditions(columns: Sequence[str]) -> tuple[str, ...]:
    """Returns the conditions of the drawn world that have some columns of an input."""
    kinds = {name: CONDITIONS.find(name) for name in CONDITIONS.names()}
    return tuple(name for name, kind in kinds.items() if set(kind.columns) & set(columns))
