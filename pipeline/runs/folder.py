"""What lies where in a run's folder.

OUTPUT/
recipe.json                 the resolved recipe, fingerprints, versions
plan/part-00000.parquet     every planned row, complete and in a fixed order
manifest/part-00000.parquet exactly the rows of that plan part, once all of them have ended
images/3f/3f9c....png       masks/3f/3f9c....png
report.html  stats.json  _SUCCESS.json
_work/results/part-00000/   rows that ended, task by task, until their part is complete
_work/kept/part-00000.parquet  what an earlier form of the run had answered for rows to be finished
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.pipeline.storage.parquet import read_parquet
from overpaint.pipeline.storage.store import Storage

RECIPE = "recipe.json"
STATS = "stats.json"
REPORT = "report.html"
SUCCESS = "_SUCCESS.json"
WORK = "_work"
PLANNED = f"{WORK}/planned.json"
KEPT = f"{WORK}/kept"
_PART_NAME = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and writes the parts of one run."""

    storage: Storage

    def read_json(self, path: str) -> Any | None:
        """A JSON file of the run; None where it is absent."""
        try:
            return json.loads(self.storage.read(path))
        except FileNotFoundError:
            return None

    def write_json(self, path: str, value: Any) -> None:
        """Writes a JSON file in one step."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        self.storage.write(path, text.encode())

    def is_finished(self) -> bool:
        """Tells whether every row of the run has ended and its manifest is complete."""
        return self.read_json(SUCCESS) is not None

    def is_planned(self) -> bool:
        """Tells whether all rows of the run have been written down."""
        return self.read_json(PLANNED) is not None or self.is_finished()

    def parts(self, folder: str) -> list[int]:
        """The numbers of the parts in `plan`, `manifest` or `KEPT`, in order."""
        names = (path.rsplit("/", 1)[-1] for path in self.storage.list(folder))
        return sorted(int(found[1]) for name in names if (found := _PART_NAME.fullmatch(name)))

    def read_part(self, folder: str, part: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One part of `plan`, `manifest` or `KEPT`."""
        return read_parquet(self.storage.read(part_path(folder, part)), columns)

    def write_part(self, folder: str, part: int, table: pa.Table) -> None:
        """Writes one part in one step."""
        self.storage.write(part_path(folder, part), parquet_bytes(table))

    def results(self, part: int) -> list[str]:
        """The result files of a part that is not complete yet."""
        paths = self.storage.list(f"{WORK}/results/part-{part:05d}")
        return [path for path in paths if path.endswith(".parquet")]

    def read_results(self, part: int, columns: Sequence[str] | None = None) -> list[pa.Table]:
        """The rows of a part that have ended so far, file by file."""
        return self.storage.map(
            lambda p: read_parquet(self.storage.read(p), columns), self.results(part)
        )

    def write_result(self, part: int, name: str, table: pa.Table) -> None:
        """Commits the rows of one task; the same rows have the same name."""
        path = f"{WORK}/results/part-{part:05d}/{name}.parquet"
        self.storage.write(path, parquet_bytes(table))

    def remove_objects(self, key: str, image_format: str) -> None:
        """Removes what a row may have stored."""
        self.storage.remove([image_path(key, image_format), mask_path(key)])

    def remove_results(self, part: int) -> None:
        """Removes the result files of a part."""
        self.storage.remove_tree(f"{WORK}/results/part-{part:05d}")


def part_path(folder: str, part: int) -> str:
    """Where a part lies."""
    return f"{folder}/part-{part:05d}.parquet"


def image_path(key: str, image_format: str) -> str:
    """Where a row's edited image lies: spread over 256 prefixes."""
    return f"images/{key[:2]}/{key}.{image_format}"


def mask_path(key: str) -> str:
    """Where a row's mask lies."""
    return f"masks/{key[:2]}/{key}.png"


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file: the same table gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
