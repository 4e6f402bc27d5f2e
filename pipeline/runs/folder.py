"""Files of a run, and one way through the rows of its tables.

OUTPUT/
recipe.json                 the record of the run: resolved recipe, fingerprints, versions
plan/part-00000.parquet     every planned row, complete and in a fixed order
manifest/part-00000.parquet exactly the rows of that plan part, once all of them have ended
images/3f/3f9c....png       masks/3f/3f9c....png       editable/3f/3f9c....png
drawn/3f/3f9c....png        sources that a model has drawn
report.html  stats.json  _SUCCESS.json
_work/results/part-00000/   rows that ended, task by task, until their part is complete
_work/answers/3f9c....      answers of servers for rows that have not ended
_work/cached/part-00000.parquet  outputs that an update keeps for rows still to be finished
"""

import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from overpaint.pipeline import columns as c
from overpaint.pipeline.storage.checks import check_folder
from overpaint.pipeline.storage.parquet import read_parquet
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise

RECIPE = "recipe.json"
STATS = "stats.json"
REPORT = "report.html"
SUCCESS = "_SUCCESS.json"
WORK = "_work"
ATTEMPTS = f"{WORK}/attempts"
ANSWERS = f"{WORK}/answers"
OBJECT_FOLDERS = ("images", "masks", "editable", "drawn")
"""Folders of the objects that rows store."""
PLANNED = f"{WORK}/planned.json"
CACHED = f"{WORK}/cached"
_PART_NAME = re.compile(r"part-(\d+)\.parquet")
_PARTS_AHEAD = 4
"""Parts read ahead: enough to hide an object store's latency, few enough for memory."""

Where = Mapping[str, Any] | pc.Expression
"""Which rows to read: an expression over columns, or the value of each of some columns.

In a mapping a list stands for any of its values, and None for null.
"""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
        storage: storage of the run folder.

    Example:
        >>> folder = RunFolder(Storage("s3://bucket/run"))
        >>> for row in folder.rows(["key", "edited_uri"], {"status": "accepted"}):
        ...     print(row["key"], row["edited_uri"])
    """

    storage: Storage

    @classmethod
    def at(cls, uri: str) -> "RunFolder":
        """Returns the run folder at a URI as a user gives it.

        Raises:
            UsageError: no folder can be there.
        """
        uri = normalise(uri)
        check_folder(uri)
        return cls(Storage(uri))

    def read_json(self, path: str) -> Any | None:
        """Returns the content of a JSON file of the run; None where it is absent."""
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

    def rows(
        self,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        *,
        folder: str = "manifest",
    ) -> Iterator[dict[str, Any]]:
        """Yields rows of the manifest, or of another table of the run, in order.

        Memory holds a few parts at a time, however many rows there are.

        Args:
            columns: names of the columns to read; None for all.
            where: which rows; None for all.
            folder: `plan`, `manifest` or `CACHED`.
        """
        for _, table in self.tables(columns, where, folder=folder):
            yield from table.to_pylist()

    def tables(
        self,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        *,
        folder: str = "manifest",
        parts: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yields parts of the manifest, or of another table of the run, in order, a few read ahead.

        Args:
            columns: names of the columns to read; None for all.
            where: which rows; None for all.
            folder: `plan`, `manifest` or `CACHED`.
            parts: numbers of the parts; None for all.

        Yields:
            The number of a part, and its rows.
        """
        numbers = iter(self.parts(folder) if parts is None else parts)
        read = partial(self.read_part, folder, columns=columns, where=where)
        with ThreadPoolExecutor(_PARTS_AHEAD) as pool:
            reading = deque((n, pool.submit(read, n)) for n in islice(numbers, _PARTS_AHEAD))
            while reading:
                number, table = reading.popleft()
                reading.extend((n, pool.submit(read, n)) for n in islice(numbers, 1))
                yield number, table.result()

    def parts(self, folder: str) -> list[int]:
        """Returns the numbers of the parts in `plan`, `manifest` or `CACHED`, in order."""
        names = (path.rsplit("/", 1)[-1] for path in self.storage.list(folder))
        return sorted(int(match[1]) for name in names if (match := _PART_NAME.fullmatch(name)))

    def read_part(
        self,
        folder: str,
        part: int,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pa.Table:
        """Reads one part of `plan`, `manifest` or `CACHED`; takes what `tables` takes."""
        data = self.storage.read(part_path(folder, part))
        return read_parquet(data, columns, _expression(where))

    def write_part(self, folder: str, part: int, table: pa.Table) -> None:
        """Writes one part in one step."""
        self.storage.write(part_path(folder, part), parquet_bytes(table))

    def results(self, part: int) -> list[str]:
        """Returns the paths of the result files of a part that is not complete yet."""
        paths = self.storage.list(f"{WORK}/results/part-{part:05d}")
        return [path for path in paths if path.endswith(".parquet")]

    def read_results(self, part: int, columns: Sequence[str] | None = None) -> list[pa.Table]:
        """Reads the rows of a part that have ended so far, file by file."""
        return self.storage.map(
            lambda path: read_parquet(self.storage.read(path), columns), self.results(part)
        )

    def write_result(self, part: int, name: str, table: pa.Table) -> None:
        """Commits the rows of one task; the same rows have the same name."""
        path = f"{WORK}/results/part-{part:05d}/{name}.parquet"
        self.storage.write(path, parquet_bytes(table))

    def remove_objects(self, key: str, image_format: str) -> None:
        """Removes the images that a row may have stored."""
        self.storage.remove(object_paths(key, image_format).values())

    def remove_answers(self, keys: Iterable[str]) -> None:
        """Removes what servers have answered for rows, which have ended."""
        for key in keys:
            self.storage.remove_tree(f"{ANSWERS}/{key}")

    def remove_results(self, part: int) -> None:
        """Removes the result files of a part."""
        self.storage.remove_tree(f"{WORK}/results/part-{part:05d}")


def part_path(folder: str, part: int) -> str:
    """Returns the path of a part."""
    return f"{folder}/part-{part:05d}.parquet"


def object_paths(key: str, image_format: str) -> dict[str, str]:
    """Returns the paths of all objects that a row may store, by the column that names each."""
    return {
        c.EDITED_URI.name: image_path(key, image_format),
        c.MASK_URI.name: mask_path(key),
        c.EDITABLE_MASK_URI.name: editable_mask_path(key),
        c.DRAWN_URI.name: drawn_path(key, image_format),
    }


def image_path(key: str, image_format: str) -> str:
    """Returns the path of a row's edited image; paths are spread over 256 prefixes."""
    return f"images/{key[:2]}/{key}.{image_format}"


def drawn_path(key: str, image_format: str) -> str:
    """Returns the path of a row's source where a model has drawn it."""
    return f"drawn/{key[:2]}/{key}.{image_format}"


def mask_path(key: str) -> str:
    """Returns the path of a row's mask."""
    return f"masks/{key[:2]}/{key}.png"


def editable_mask_path(key: str) -> str:
    """Returns the path of the mask that was really editable in a row."""
    return f"editable/{key[:2]}/{key}.png"


def parquet_bytes(table: pa.Table) -> bytes:
    """Encodes a table as a Parquet file: equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _expression(where: Where | None) -> pc.Expression | None:
    if where is None or isinstance(where, pc.Expression):
        return where
    terms = [_equals(name, value) for name, value in where.items()]
    return reduce(and_, terms) if terms else None


def _equals(name: str, value: Any) -> pc.Expression:
    field = pc.field(name)
    if value is None:
        return field.is_null()
    return field.isin(value) if isinstance(value, list) else field == value
