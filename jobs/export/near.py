"""Near-duplicates among 64-bit perceptual hashes, without comparing all with all.

Hashes that differ in at most n bits are equal in one of n + 1 blocks of their bits. So hashes are
compared only with those that share a block; groups are the connected components of what is near.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

_BITS = 64
_COMPARED_AT_ONCE = 1 << 22
_ARRAYS_AT_ONCE = 4096


def near_duplicates(hashes: Hashes, near_bits: int) -> Numbers:
    """Returns the number of each hash's group of near-duplicates, 0 to groups - 1.

    Args:
        hashes: 64-bit hashes.
        near_bits: most bits in which two near-duplicates differ; groups are transitive.
    """
    distinct, place = np.unique(hashes, return_inverse=True)
    labels = np.arange(len(distinct))
    for edges in _gathered(near_pairs(distinct, near_bits)):
        labels = joined(labels, edges)
    _, groups = np.unique(labels, return_inverse=True)
    return groups[place].astype(np.int64)


def _gathered(edges: Iterator[Numbers]) -> Iterator[Numbers]:
    """Yields few large arrays of pairs instead of many small ones."""
    pending: list[Numbers] = []
    for some in edges:
        pending.append(some)
        if len(pending) >= _ARRAYS_AT_ONCE:
            yield np.concatenate(pending, axis=1)
            pending = []
    if pending:
        yield np.concatenate(pending, axis=1)


def near_pairs(distinct: Hashes, near_bits: int) -> Iterator[Numbers]:
    """Yields the near pairs of some distinct hashes, in several arrays of bounded size.

    Args:
        distinct: 64-bit hashes, each once.
        near_bits: most bits in which near ones differ; 0 yields nothing.

    Yields:
        Places of pairs, 2n, the lesser place first; a pair may come several times.
    """
    if not near_bits:
        return
    cuts = np.linspace(0, _BITS, near_bits + 2).round().astype(int)
    for low, high in pairwise(cuts.tolist()):
        block = (distinct >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(block, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(block[order]) != 0, True])
        for start, stop in pairwise(starts.tolist()):
            if stop - start > 1:
                yield from _near_in(distinct, order[start:stop], near_bits)


def _near_in(distinct: Hashes, members: Numbers, near_bits: int) -> Iterator[Numbers]:
    rows = max(1, _COMPARED_AT_ONCE // len(members))
    for start in range(0, len(members), rows):
        some = members[start : start + rows]
        bits = np.bitwise_count(distinct[some][:, None] ^ distinct[members][None, :])
        one, other = np.nonzero(bits <= near_bits)
        edges = np.stack([some[one], members[other]])
        yield edges[:, edges[0] < edges[1]]


def joined(labels: Numbers, edges: Numbers) -> Numbers:
    """Returns labels after the groups at the ends of each edge have become one.

    Args:
        labels: number of the group of each member.
        edges: pairs of members, 2n.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = labels[edges]
    graph = coo_array((np.ones(ends.shape[1], np.int8), (ends[0], ends[1])), (len(labels),) * 2)
    _, groups = connected_components(graph, directed=False)
    return groups[labels].astype(np.int64)
