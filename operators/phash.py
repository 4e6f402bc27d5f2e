"""`phash`: perceptual hashes of a source and its edit: duplicates, and edits that do nothing.

Pictures of which a handful of the 64 bits differ (up to about 10) look alike. Unlike SHA-256 the
hash holds under other codecs and sizes, so that `phash_source` finds near-duplicates in a data set.
"""

from typing import ClassVar

import pyarrow as pa
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.perceptual_hash import hamming_distance, perceptual_hash
from overpaint.operators.measures.pixel_measure import PixelMeasure
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.operator import NewColumns
from PIL import Image

PHASH_SOURCE = Column("phash_source", pa.int64(), "perceptual hash of the source, 64 bits")
PHASH_EDITED = Column("phash_edited", pa.int64(), "perceptual hash of the edited image, 64 bits")
PHASH_DISTANCE = score("phash_distance", "bits in which both hashes differ, 0 to 64")


class Phash(PixelMeasure):
    """Hashes both pictures by their lowest frequencies, bit for bit as `imagehash.phash` does."""

    columns: ClassVar[tuple[Column, ...]] = (PHASH_SOURCE, PHASH_EDITED, PHASH_DISTANCE)

    def measure(self, pair: Pair, row: Row) -> NewColumns:
        """Returns the hashes of one row, and their distance."""
        del row
        source, edited = (perceptual_hash(Image.fromarray(one)) for one in pair[:2])
        return {
            PHASH_SOURCE.name: source,
            PHASH_EDITED.name: edited,
            PHASH_DISTANCE.name: float(hamming_distance(source, edited)),
        }
