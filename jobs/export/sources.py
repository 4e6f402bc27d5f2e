"""Fingerprints of sources: the second pass, which reads each distinct source once.

Equal pixels are one source, whatever file they come from; near-duplicates share a split.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from overpaint.jobs.export.index import Index, digest
from overpaint.jobs.export.pictures import flat
from overpaint.jobs.export.request import Colour
from overpaint.jobs.export.runs import RowReader
from overpaint.jobs.export.threads import in_threads
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.errors import RowError

Numbers = np.ndarray[Any, np.dtype[np.int64]]

NO_SOURCE = "no_source"
_ALL_BITS = 2**64 - 1


@dataclass(slots=True)
class Sources:
    """The distinct sources of some candidates.

    Attributes:
        of: number of each candidate's source; negative where the source cannot be read.
        pixels: 16-byte digest of each source's pixels.
        hashes: perceptual hash of each source, 64 bits.
        errors: candidates whose source cannot be read, by error code.
    """

    of: Numbers
    pixels: np.ndarray[Any, np.dtype[np.bytes_]]
    hashes: np.ndarray[Any, np.dtype[np.uint64]]
    errors: dict[str, int]


def read_sources(index: Index, reader: RowReader, colour: Colour) -> Sources:
    """Reads the distinct sources of an index.

    Args:
        index: candidates.
        reader: reader of their rows.
        colour: colour under transparent pixels.
    """
    _, first, of_file = np.unique(index.rows["source"], return_index=True, return_inverse=True)

    def prepared() -> Iterator[Callable[[], tuple[bytes, int] | str]]:
        for number in first:
            place = index.place(number)
            row, images = reader.row(place), reader.runs[place.run].images
            yield partial(_fingerprint, images, row, colour)

    found = list(in_threads(prepared()))
    is_read = np.array([not isinstance(one, str) for one in found], bool)
    pixels = np.array([one[0] for one in found if not isinstance(one, str)], "S16")
    hashes = np.array([one[1] for one in found if not isinstance(one, str)], np.uint64)
    pixels, kept, same = np.unique(pixels, return_index=True, return_inverse=True)
    of = np.full(len(found), -1)
    of[is_read] = same
    errors: dict[str, int] = {}
    counts = np.bincount(of_file, minlength=len(found))
    for code, count in zip(found, counts.tolist(), strict=True):
        if isinstance(code, str):
            errors[code] = errors.get(code, 0) + count
    return Sources(of[of_file], pixels, hashes[kept], errors)


def _fingerprint(
    images: RunImages, row: Mapping[str, Any], colour: Colour
) -> tuple[bytes, int] | str:
    """Returns the digest and the perceptual hash of a source, or why it cannot be read."""
    from overpaint.operators.measures.perceptual_hash import perceptual_hash

    try:
        picture = images.open(row, "source_image")
    except RowError as error:
        return error.code
    if picture is None:
        return NO_SOURCE
    image = flat(picture, colour)
    return digest(f"{image.size}".encode() + image.tobytes()), perceptual_hash(image) & _ALL_BITS
