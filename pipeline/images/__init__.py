"""Bytes to upright 8-bit pixels, and back: one reader for sources, masks, references, thumbnails.

Pixels come in upright (EXIF orientation applied). CMYK, grey with a profile, and pictures of more
than 8 bits come in as 8-bit sRGB; a `Picture` keeps what an editor must not lose: the alpha channel
and the ICC profile of RGB. A mask or map of weights is read by its numbers, which mean no colours.
"""

from overpaint.pipeline.images.masks import MAY_CHANGE, decode_mask, decode_weights
from overpaint.pipeline.images.picture import LARGE_PX, Picture, Pixels, shrink_factor
from overpaint.pipeline.images.reading import MAX_PIXELS, decode, open_image, release, upright
from overpaint.pipeline.images.writing import (
    FORMATS,
    PNG_OPTIONS,
    codec_versions,
    encode,
    encode_mask,
)

__all__ = [
    "FORMATS",
    "LARGE_PX",
    "MAX_PIXELS",
    "MAY_CHANGE",
    "PNG_OPTIONS",
    "Picture",
    "Pixels",
    "codec_versions",
    "decode",
    "decode_mask",
    "decode_weights",
    "encode",
    "encode_mask",
    "open_image",
    "release",
    "shrink_factor",
    "upright",
]
