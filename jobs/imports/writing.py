"""Tables of imported rows: `rows.jsonl` with copies of the pictures, which `run --input` reads."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from overpaint.jobs.imports.benchmark import Benchmark, BenchmarkRow, Value
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.images import encode_mask
from overpaint.pipeline.storage.clutter import is_clutter
from PIL import Image, UnidentifiedImageError

ROWS_FILE = "rows.jsonl"
_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "JPEG2000": "jp2"}
_DIGITS = 20


def check_new_folder(out: Path) -> None:
    """Checks that a folder holds nothing that a table would be mixed with.

    Raises:
        UsageError: it holds files.
    """
    if out.is_dir() and not all(is_clutter(path.name) for path in out.iterdir()):
        raise UsageError(f"{out} is not empty; name a folder that is empty or does not exist")


def write_table(
    benchmark: Benchmark,
    folder: Path,
    out: Path,
    *,
    only: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Counter[str]:
    """Writes rows.jsonl, images/ and masks/; equal arguments give equal bytes.

    Pictures are copied as they are, under the digests of their bytes: equal ones once. A row has
    `source_uri`, the benchmark's columns, and `mask_uri` where the benchmark has masks. The table
    is written last, so that one that is there is whole.

    Args:
        benchmark: reader.
        folder: the benchmark's folder.
        out: folder to write into.
        only: values that columns of a row must have, by name; true and false as such words.
        limit: rows of each `task` to take, from its front; None for all.

    Returns:
        The number of rows of each task.

    Raises:
        UsageError: the folder is not the benchmark's, a row of it is odd, or there is no such row.
    """
    rows = _chosen(benchmark, benchmark.rows(folder), only or {}, limit)
    counts, lines = Counter[str](), list[str]()
    for row in rows:
        lines.append(json.dumps(_columns(benchmark, row, out), ensure_ascii=False))
        counts[str(row.values.get("task"))] += 1
    if not lines:
        raise UsageError(f"{folder}: no row of {benchmark.title} {_named(only or {})}")
    temporary = out / f".{ROWS_FILE}"
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(out / ROWS_FILE)
    return counts


def _chosen(
    benchmark: Benchmark,
    rows: Iterable[BenchmarkRow],
    only: Mapping[str, str],
    limit: int | None,
) -> Iterator[BenchmarkRow]:
    for name in only:
        if name not in benchmark.columns:
            raise UsageError(f"--only {name}: no such column: {near_miss(name, benchmark.columns)}")
    taken = Counter[Value]()
    for row in rows:
        task = row.values.get("task")
        wanted = all(_word(row.values.get(name)) == value for name, value in only.items())
        if wanted and (limit is None or taken[task] < limit):
            taken[task] += 1
            yield row


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else value or ""


def _named(only: Mapping[str, str]) -> str:
    return "has " + " and ".join(f"{name}={value}" for name, value in only.items()) if only else ""


def _columns(benchmark: Benchmark, row: BenchmarkRow, out: Path) -> dict[str, Value]:
    data = row.image if isinstance(row.image, bytes) else row.image.read_bytes()
    columns: dict[str, Value] = {"source_uri": _stored(out, "images", data, _suffix(data, row))}
    columns |= {name: row.values.get(name) for name in benchmark.columns}
    if benchmark.has_masks:
        mask = None if row.mask is None else encode_mask(row.mask)
        columns["mask_uri"] = None if mask is None else _stored(out, "masks", mask, "png")
    return columns


def _suffix(data: bytes, row: BenchmarkRow) -> str:
    """Returns the ending for a picture's format; reads no pixels."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            name = str(image.format)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UsageError(f"{row.place}: its source is not a picture that can be read") from error
    return _SUFFIXES.get(name, name.lower())


def _stored(out: Path, folder: str, data: bytes, suffix: str) -> str:
    uri = f"{folder}/{hashlib.sha256(data).hexdigest()[:_DIGITS]}.{suffix}"
    path = out / uri
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(data)
        temporary.replace(path)
    return uri
