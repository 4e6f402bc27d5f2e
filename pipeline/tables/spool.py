"""Tables that must be read whole before their columns are known, kept in a temporary folder.

Lines of JSON, CSV and the samples of tars have no footer that tells their columns. Each file of
several is read once and kept as Parquet, so that memory holds a few at a time.
"""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.pipeline.tables.parquet import parquet_part
from overpaint.pipeline.tables.parts import TablePart


class Spool:
    """Temporary folder of tables, which is removed once no part of it is in use."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="overpaint-")

    def add(self, path: str, table: pa.Table) -> TablePart:
        """Writes a table, and returns it as a part; several threads may add.

        Args:
            path: path of the table's file, as users know it.
            table: the table.
        """
        file = Path(self._folder.name) / f"{uuid.uuid4().hex}.parquet"
        pq.write_table(table, file, compression="lz4")
        part = parquet_part(str(file), path)

        def read(names: Sequence[str]) -> Iterator[pa.Table]:
            assert self._folder  # held here, the folder is there as long as the part is
            return part.read(names)

        return replace(part, read=read)
