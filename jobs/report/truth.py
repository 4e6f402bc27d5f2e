"""How a run came out where the truth is known: the share of successful edits beside the oracle."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Success:
    """Counts of one edit type.

    Args:
        planned: rows with a known truth, ended in whatever way.
        successful: rows whose edit matches the truth.
        measured: rows that were edited, so that the oracle was asked.
        oracle: rows of those whose true target survives the VAE's round trip.
    """

    planned: int
    successful: int
    measured: int
    oracle: int


def success(folder: RunFolder) -> dict[str, Success]:
    """Success by edit type, and of `all`; empty where the run does not measure it."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for part in folder.parts("manifest"):
        table = folder.read_part("manifest", part)
        if "truth_success" not in table.column_names:
            return {}
        columns = ["edit_type", "in_target_uri", "truth_success", "oracle_success"]
        known = [name for name in columns if name in table.column_names]
        rows = table.select(known).to_pylist()
        for row in (row for row in rows if row.get("in_target_uri")):
            for name in ("all", row["edit_type"] or "other"):
                _count(counts[name], row)
    return {name: Success(*found) for name, found in sorted(counts.items())}


def _count(counts: list[int], row: dict[str, Any]) -> None:
    counts[0] += 1
    counts[1] += bool(row["truth_success"])
    counts[2] += row["oracle_success"] is not None
    counts[3] += bool(row["oracle_success"])
