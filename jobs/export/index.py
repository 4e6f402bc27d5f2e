"""Index of the candidates of finished runs: the first pass, over manifests, in few bytes a row.

What was asked for is told apart by digests; pictures are not read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.jobs.export.rank import Rank
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.rows import CHAIN, EDIT_TYPE, caption_columns
from overpaint.jobs.export.runs import FinishedRun, Place
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import first_text
from overpaint.pipeline.conditions import CONDITIONS
from overpaint.pipeline.runs.manifest import ACCEPTED

CANDIDATE = np.dtype(
    [
        ("run", "u2"),
        ("part", "u4"),
        ("offset", "u4"),
        ("key", "S16"),
        ("source", "S16"),
        ("name", "S16"),
        ("chain", "S16"),
        ("words", "S16"),
        ("caption", "S16"),
        ("edited", "S16"),
        ("rank", "f8"),
        ("accepted", "?"),
        ("edit_type", "u2"),
    ]
)
"""One row that has an edited image; digests have 16 bytes."""
Candidates = np.ndarray[Any, np.dtype[np.void]]

_READ = (
    *(c.KEY, c.SOURCE_URI, c.SOURCE_SHA256, c.SOURCE_PROMPT, c.TARGET_PROMPT, c.EDIT_TYPE),
    *(c.EDITED_URI, c.EDITED_SHA256, c.STATUS),
)
_SHOWN = tuple(f"in_{condition.table_name}" for condition in CONDITIONS.values())
"""Columns with what an edit is shown beside words: requests that differ there are not one."""
_NO_RANK = float("nan")


@dataclass(slots=True)
class Index:
    """The rows of some runs that have an edited image.

    Attributes:
        rows: one of `CANDIDATE` for each, in the order of runs and manifests.
        edit_types: names of edit types, by number; rows without one have the empty name.
        counts: rows that ended in each way, by edit type and status.
    """

    rows: Candidates
    edit_types: list[str]
    counts: Counter[tuple[str, str]]

    def place(self, number: int) -> Place:
        """Returns the place of a row."""
        row = self.rows[number]
        return Place(int(row["run"]), int(row["part"]), int(row["offset"]))


def read_index(runs: Sequence[FinishedRun], request: ExportRequest, rank: Rank | None) -> Index:
    """Reads the candidates of some runs.

    Args:
        runs: finished runs.
        request: what is exported; its words tell requests apart.
        rank: what ranks candidates; None for nothing.
    """
    edit_types: dict[str, int] = {}
    counts: Counter[tuple[str, str]] = Counter()
    parts = [np.zeros(0, CANDIDATE)]
    for number, run in enumerate(runs):
        wanted = {
            *(column.name for column in _READ),
            *caption_columns(request),
            *_SHOWN,
            CHAIN,
            rank.column if rank else "",
        }
        columns = [name for name in run.schema.names if name in wanted]
        for part, table in run.folder.tables(columns):
            rows: list[dict[str, Any]] = table.to_pylist()
            counts.update((row[EDIT_TYPE] or "", row["status"]) for row in rows)
            found = list(_candidates(rows, request, rank, edit_types))
            candidates = np.array(found, CANDIDATE)
            candidates["run"], candidates["part"] = number, part
            parts.append(candidates)
    return Index(np.concatenate(parts), list(edit_types), counts)


def _candidates(
    rows: Sequence[Mapping[str, Any]],
    request: ExportRequest,
    rank: Rank | None,
    edit_types: dict[str, int],
) -> Iterator[tuple[Any, ...]]:
    for offset, row in enumerate(rows):
        if row[c.EDITED_URI.name] is None:
            continue
        edit_type = row[EDIT_TYPE] or ""
        said = [row[c.SOURCE_PROMPT.name], row[c.TARGET_PROMPT.name], edit_type]
        said += [row.get(name) for name in _SHOWN]
        caption = first_text(row, *(c.Column(n, c.KEY.type, "") for n in caption_columns(request)))
        score = rank.of(row) if rank else None
        yield (
            0,
            0,
            offset,
            bytes.fromhex(row["key"]),
            digest(row[c.SOURCE_SHA256.name] or row[c.SOURCE_URI.name]),
            digest(row[c.SOURCE_URI.name]),
            digest(row.get(CHAIN) or row["key"]),
            digest(json.dumps([caption, *said], default=str)),
            digest(caption or ""),
            digest(row[c.EDITED_SHA256.name] or row["key"]),
            _NO_RANK if score is None else score,
            row["status"] == ACCEPTED,
            edit_types.setdefault(edit_type, len(edit_types)),
        )


def digest(text: str | bytes) -> bytes:
    """Returns 16 bytes that tell a text, or bytes, from all others."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=16).digest()
