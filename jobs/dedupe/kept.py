"""Choice of the sources that are kept among near-duplicates: the better one of each two.

Sources are taken from the best to the worst, and one is kept unless a kept one is near. So every
refused source is near to a kept one, and no two kept ones are near; groups that are only chained by
sources between them are not merged, as connected components would be.
"""

from typing import Any, NamedTuple

import numpy as np
from overpaint.jobs.export.near import Hashes, Numbers, near_pairs

_Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Kept(NamedTuple):
    """Outcome for each source.

    Attributes:
        by: number of the kept source that it is near to; its own where it is kept.
        bits: bits in which both hashes differ.
    """

    by: Numbers
    bits: Numbers


def choose_kept(hashes: Hashes, order: Numbers, near_bits: int) -> Kept:
    """Chooses the sources that are kept.

    Memory grows with the number of sources, and not with that of near pairs.

    Args:
        hashes: perceptual hash of each source, 64 bits.
        order: numbers of the sources, the best first.
        near_bits: most bits in which near-duplicates differ.
    """
    ranked = hashes[order]
    distinct, first, place = np.unique(ranked, return_index=True, return_inverse=True)
    by_rank = np.argsort(first, kind="stable")
    rank_of = np.empty(len(distinct), np.int64)
    rank_of[by_rank] = np.arange(len(distinct))
    leaders, bits = _leaders(distinct[by_rank], near_bits)
    ranks = rank_of[place.reshape(-1)]
    by, distance = np.empty(len(hashes), np.int64), np.empty(len(hashes), np.int64)
    by[order] = order[first[by_rank]][leaders[ranks]]
    distance[order] = bits[ranks]
    return Kept(by, distance)


def _leaders(hashes: Hashes, near_bits: int) -> tuple[Numbers, Numbers]:
    """Returns the kept hash that each is near to, and their distance.

    Args:
        hashes: distinct hashes, the best first.
        near_bits: most bits in which near-duplicates differ.
    """
    has_near = np.zeros(len(hashes), np.bool_)
    for pairs in near_pairs(hashes, near_bits):
        has_near[pairs.reshape(-1)] = True
    places = np.flatnonzero(has_near)
    leaders, bits = np.arange(len(hashes)), np.zeros(len(hashes), np.int64)
    some = hashes[places]
    own = _nearest_kept(some, _undominated(some, near_bits), near_bits)
    leaders[places] = places[own]
    bits[places] = np.bitwise_count(some ^ some[own])
    return leaders, bits


def _undominated(hashes: Hashes, near_bits: int) -> _Bools:
    """Tells of each hash whether it is kept: in rounds, each of which decides at least one."""
    kept, dropped = np.zeros(len(hashes), np.bool_), np.zeros(len(hashes), np.bool_)
    while not (kept | dropped).all():
        is_open = ~(kept | dropped)
        blocked = np.zeros(len(hashes), np.bool_)
        for better, worse in near_pairs(hashes, near_bits):
            dropped[worse[kept[better]]] = True
            blocked[worse[is_open[better]]] = True
        kept |= is_open & ~blocked & ~dropped
    return kept


def _nearest_kept(hashes: Hashes, kept: _Bools, near_bits: int) -> Numbers:
    """Returns the better kept hash that is nearest to each; the best among equally near ones."""
    own = np.arange(len(hashes))
    nearest = np.where(kept, own, np.iinfo(np.int64).max)
    for better, worse in near_pairs(hashes, near_bits):
        chosen = kept[better] & ~kept[worse]
        better, worse = better[chosen], worse[chosen]
        bits = np.bitwise_count(hashes[better] ^ hashes[worse]).astype(np.int64)
        np.minimum.at(nearest, worse, bits << 48 | better)
    return nearest & ((1 << 48) - 1)
