"""Splits by source: every example of a source, and of its near-duplicates, is in one split."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from overpaint.jobs.export.near import joined, near_duplicates
from overpaint.pipeline.errors import UsageError

Digests = np.ndarray[Any, np.dtype[np.bytes_]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOLERANCE = 1e-6


def parse_splits(text: str) -> dict[str, float]:
    """Returns the shares of splits by name, in the order of a text such as `train=0.9,test=0.1`.

    Raises:
        UsageError: not names and shares, or the shares are not 1 together.
    """
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, _, share = (part.strip() for part in entry.partition("="))
        if not _NAME.fullmatch(name) or name in shares or not _is_share(share):
            raise UsageError(
                f"--split {text!r}: {entry!r} is no name and share; "
                "write train=0.9,validation=0.05,test=0.05"
            )
        shares[name] = float(share)
    if abs(sum(shares.values()) - 1) > _TOLERANCE:
        total = f"{sum(shares.values()):g}"
        raise UsageError(f"--split {text!r}: the shares are {total} together; they must be 1")
    return shares


def assign_splits(
    pixels: Digests,
    hashes: Hashes,
    shares: Mapping[str, float],
    near_bits: int,
    links: Numbers | None = None,
) -> tuple[Numbers, int]:
    """Assigns a split to each of some distinct sources.

    The split of a group of near-duplicates follows from the least pixel digest among them, and so
    from its pictures alone.

    Args:
        pixels: 16-byte digests of the sources' pixels.
        hashes: perceptual hashes of the sources, 64 bits.
        shares: share of each split, by name; together 1.
        near_bits: most bits in which near-duplicates differ.
        links: pairs of sources, 2n, that share a split whatever they look like.

    Returns:
        The number of each source's split in the order of `shares`, and the number of groups.
    """
    if not len(pixels):
        return np.zeros(0, np.int64), 0
    groups = near_duplicates(hashes, near_bits)
    if links is not None and links.size:
        groups = np.unique(joined(groups, links), return_inverse=True)[1]
    order = np.lexsort((pixels, groups))
    first = np.r_[True, groups[order][1:] != groups[order][:-1]]
    least = pixels[order][first]
    ends = np.cumsum(list(shares.values()))[:-1]
    positions = np.array([_position(digest) for digest in least])
    return np.searchsorted(ends, positions, side="right")[groups], len(least)


def linked(rows: np.ndarray[Any, np.dtype[np.void]], sources: Numbers) -> Numbers:
    """Returns pairs of sources, 2n, that belong together though their pixels differ.

    Those that a model has drawn for one row of a table, and those of one chain of turns.

    Args:
        rows: candidates, with digests of `name` and `chain`, and the number of their `run`.
        sources: number of each candidate's source; negative where it cannot be read.
    """
    known = sources >= 0
    pairs = [np.zeros((2, 0), np.int64)]
    for labels in (rows[["run", "name"]][known], rows["chain"][known]):
        _, first, of_label = np.unique(labels, return_index=True, return_inverse=True)
        pairs.append(np.stack([sources[known][first][of_label.reshape(-1)], sources[known]]))
    edges = np.concatenate(pairs, axis=1)
    return np.unique(edges[:, edges[0] != edges[1]], axis=1)


def _position(digest: bytes) -> float:
    """Returns a number from 0 to 1 that follows from a digest."""
    return int.from_bytes(digest.ljust(16, b"\0")[:8], "big") / 2**64


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False
