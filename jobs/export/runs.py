"""Finished runs as an export reads them: their rows by place, their pictures, their scores."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.jobs.report.scores import score_names
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import SUCCESS, RunFolder, part_path
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.parquet import read_schema
from overpaint.pipeline.storage.store import open_uri

_PARTS_KEPT = 4


class Place(NamedTuple):
    """The place of a row: number of the run, of the part of its manifest, and of the row in it."""

    run: int
    part: int
    offset: int


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: run folder.
        record: what was asked for, and all that decides the run's bytes.
        images: reader of the run's pictures.
        schema: columns of the manifest.
    """

    folder: RunFolder
    record: RunRecord
    images: RunImages
    schema: pa.Schema

    @classmethod
    def at(cls, uri: str) -> "FinishedRun":
        """Opens the run at a URI.

        Raises:
            UsageError: there is no run, or it is not finished.
        """
        folder = RunFolder.at(uri)
        record = RunRecord.read(folder)
        if not folder.is_finished():
            raise UsageError(f"{uri}: the run there is not finished; finish it first")
        parts = folder.parts("manifest")
        schema = _schema(folder, parts[0]) if parts else pa.schema([])
        return cls(folder, record, RunImages(folder), schema)

    @property
    def scores(self) -> list[str]:
        """The names of the numeric columns that operators added."""
        return score_names(self.schema)

    def ledger(self) -> dict[str, int]:
        """Returns the counts of the run's rows by how they ended."""
        counts: dict[str, Any] = self.folder.read_json(SUCCESS) or {}
        names = ("planned", "accepted", "rejected", "failed")
        return {name: int(counts.get(name) or 0) for name in names}


def _schema(folder: RunFolder, part: int) -> pa.Schema:
    with open_uri(folder.storage.at(part_path("manifest", part))) as file:
        return read_schema(file)


@dataclass(slots=True)
class RowReader:
    """Reader of rows by place, which keeps the parts that were read last.

    Attributes:
        runs: runs whose rows are read.
    """

    runs: Sequence[FinishedRun]
    _parts: "OrderedDict[tuple[int, int], list[dict[str, Any]]]" = field(
        default_factory=OrderedDict[tuple[int, int], list[dict[str, Any]]]
    )

    def row(self, place: Place) -> Mapping[str, Any]:
        """Returns the row at a place, with all of its columns."""
        part = (place.run, place.part)
        rows = self._parts.get(part)
        if rows is None:
            folder = self.runs[place.run].folder
            rows = self._parts[part] = folder.read_part("manifest", place.part).to_pylist()
            if len(self._parts) > max(_PARTS_KEPT, 2 * len(self.runs)):
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return rows[place.offset]
