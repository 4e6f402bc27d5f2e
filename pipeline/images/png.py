"""Chunks of PNG files: what Pillow refuses or leaves out of them.

Metadata must not decide whether pixels can be read, and nothing but pixels is wanted of a file.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTING = (b"Raw profile type exif", b"XML:com.adobe.xmp", b"exif")
"""Texts by which Pillow turns an image."""
_MOST_BYTES = PngImagePlugin.MAX_TEXT_CHUNK
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each pass of an interlaced image, and the steps across and down."""


class Chunk(NamedTuple):
    """A chunk of a PNG file.

    Attributes:
        kind: its name.
        start: place of its first byte in the file, which is its length.
        end: first place behind it.
        body: what it holds.
    """

    kind: bytes
    start: int
    end: int
    body: memoryview


class Header(NamedTuple):
    """Sizes that the first chunk states.

    Attributes:
        width_px: columns.
        height_px: rows.
        depth: bits of a sample.
        colour_type: kinds of its samples.
        is_interlaced: True where pixels come in seven passes.
    """

    width_px: int
    height_px: int
    depth: int
    colour_type: int
    is_interlaced: bool


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yields the chunks of a PNG file up to the first that is cut; none of another file."""
    view, start = memoryview(data), len(SIGNATURE)
    while data.startswith(SIGNATURE) and start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        yield Chunk(kind, start, end, view[start + 8 : end - 4])
        start = end


def trimmed(data: bytes) -> bytes:
    """Returns a file without the metadata that Pillow refuses, or could take for something else.

    Texts go, but for those that turn an image. What unpacks to more than Pillow takes goes as well:
    a text, or a profile, with which no reader built on Pillow would open the file.
    """
    unwanted = [chunk for chunk in chunks(data) if not _is_wanted(chunk)]
    if not unwanted:
        return data
    starts = [0, *(chunk.end for chunk in unwanted)]
    ends = [*(chunk.start for chunk in unwanted), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))


def complete_info(image: Image.Image, data: bytes) -> None:
    """Puts right what Pillow tells of a PNG's transparent colour, and adds its `cicp`."""
    if image.format != "PNG":
        return
    transparent: Any = image.info.get("transparency")
    depth = header(data).depth
    if image.mode == "L" and isinstance(transparent, int) and depth < 8:
        # Pillow scales the samples to 8 bits, and not the transparent one.
        image.info["transparency"] = transparent * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(transparent, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    for chunk in chunks(data):
        if chunk.kind == b"cICP" and len(chunk.body) == 4:
            image.info["cicp"] = tuple(chunk.body)
        elif chunk.kind == b"IDAT":
            return


def header(data: bytes) -> Header:
    """Returns what the first chunk of a PNG states."""
    width_px, height_px, depth, colour_type, interlace = struct.unpack_from(">IIBBxxB", data, 16)
    return Header(width_px, height_px, depth, colour_type, bool(interlace))


def has_all_rows(data: bytes) -> bool:
    """Tells whether the packed pixels of a PNG are as many as its header states."""
    unpacker, missing = zlib.decompressobj(), _num_bytes(header(data))
    for chunk in chunks(data):
        packed = bytes(chunk.body) if chunk.kind == b"IDAT" else b""
        while packed and missing > 0:
            unpacked = unpacker.decompress(packed, _MOST_BYTES)
            missing -= len(unpacked)
            packed = unpacker.unconsumed_tail
    return missing <= 0 or missing <= len(unpacker.flush())


def _num_bytes(stated: Header) -> int:
    """Returns the unpacked size of an image: each row has a byte for its filter."""
    bits = stated.depth * _SAMPLES[stated.colour_type]
    passes = _ADAM7 if stated.is_interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(stated.width_px - left) // across), -(-(stated.height_px - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _is_wanted(chunk: Chunk) -> bool:
    if chunk.kind == b"iCCP":
        return _is_small(bytes(chunk.body).partition(b"\0")[2][1:])
    if chunk.kind not in _TEXTS:
        return True
    name, _, rest = bytes(chunk.body).partition(b"\0")
    if name not in _ORIENTING:
        return False
    if chunk.kind == b"zTXt":
        return _is_small(rest[1:])
    is_packed = chunk.kind == b"iTXt" and rest[:1] != b"\0"
    return not is_packed or _is_small(rest[2:].split(b"\0", 2)[-1])


def _is_small(packed: bytes) -> bool:
    """Tells whether what is packed has a size that Pillow takes; of broken data, that it has."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _MOST_BYTES)
    except zlib.error:
        return True
    return not unpacker.unconsumed_tail
