"""PNG files as Pillow does not write them: any depth, any colour type, interlaced, any chunks."""

import struct
import zlib

import numpy as np

PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png(samples, depth=8, chunks=(), interlaced=False, palette=None, rows=None):
    """Writes samples, HWC, as a PNG file.

    Args:
        samples: whole numbers below 2 ** depth; a palette's are its indices.
        chunks: pairs of names and bodies before the pixels.
        palette: RGB bytes.
        rows: rows that are written; None for all.
    """
    samples = np.asarray(samples)
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    colour_type = COLOUR_TYPES[channels] if palette is None else 3
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    lines = [
        b"\0" + packed(row, depth)
        for x, y, across, down in passes
        for row in samples[y::down, x::across]
        if row.size
    ]
    body = [chunk(b"IHDR", head)]
    body += [chunk(b"PLTE", palette)] if palette is not None else []
    body += [chunk(name, content) for name, content in chunks]
    body += [chunk(b"IDAT", zlib.compress(b"".join(lines[:rows]))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def packed(row, depth):
    """Packs the samples of a row, most significant bits first."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
