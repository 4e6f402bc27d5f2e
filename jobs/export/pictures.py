"""Pictures of examples: flattened, made equal in size, marked as edits, encoded."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.jobs.export.request import Colour
from overpaint.pipeline.images import Picture, Pixels, encode, encode_mask
from PIL import Image

DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
"""IPTC's term for a picture that was edited by a generative model."""
_MARK = "overpaint:"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 Iptc4xmpExt:DigitalSourceType="{source_type}"
 dc:identifier="{identifier}"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded picture.

    Attributes:
        data: bytes of the file.
        width_px: columns of pixels.
        height_px: rows of pixels.
    """

    data: bytes
    width_px: int
    height_px: int


def flat(picture: Picture, colour: Colour) -> Image.Image:
    """Returns a picture's colours over a colour, as a Pillow RGB image."""
    image = Image.fromarray(picture.rgb)
    if picture.alpha is None:
        return image
    paper = Image.new("RGB", image.size, colour)
    paper.paste(image, mask=Image.fromarray(picture.alpha))
    return paper


def cut(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Cuts pixels, HW or HWC, around their centre to a width and height that are not larger."""
    width, height = size
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def encoded(
    picture: Picture, colour: Colour, size: tuple[int, int], image_format: str, edited_as: str = ""
) -> Encoded:
    """Encodes a picture as examples have them: opaque, of a size, and marked where it is an edit.

    Args:
        picture: upright picture, at least as large as `size`.
        colour: colour under transparent pixels.
        size: width and height to which the picture is cut.
        image_format: `png`, `jpg` or `webp`.
        edited_as: key of the row whose edit the picture is; empty for a source.
    """
    rgb: Any = cut(np.asarray(flat(picture, colour)), size)
    xmp = packet(edited_as) if edited_as else None
    data = encode(Picture(rgb, None, picture.icc_profile), image_format, xmp=xmp)
    return Encoded(data, *size)


def packet(key: str) -> bytes:
    """Returns the XMP packet of an edited image: its digital source type, and its row's key."""
    return _XMP.format(source_type=DIGITAL_SOURCE_TYPE, identifier=f"{_MARK}{key}").encode()


def is_marked(data: bytes, key: str = "") -> bool:
    """Tells whether the file of a picture says that it is an edit, or that of a row."""
    return f"{_MARK}{key}".encode() in data


def white_mask(size: tuple[int, int]) -> bytes:
    """Returns the mask of a whole image, of a width and height, as a one-channel PNG."""
    return encode_mask(np.full((size[1], size[0]), 255, np.uint8))


def mask_of(picture: Picture, size: tuple[int, int]) -> bytes:
    """Returns a stored mask, cut to a width and height, as a one-channel PNG: white may change."""
    return encode_mask(cut(picture.rgb[..., 0], size))
