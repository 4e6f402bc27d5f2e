"""Names what a file is that no reader of pictures takes, and what would help."""

import re

from overpaint.pipeline.image_formats import (
    CONVERT_HINT,
    DRAWING_HINT,
    HEIC_HINT,
    JXL_HINT,
    LAYERS_HINT,
    RAW_HINT,
    READ_FORMATS,
)

_HEAD_BYTES = 1024
_QUOTED_CHARACTERS = 40
_UNPACK_HINT = "unpack it"
_FRAMES_HINT = "take pictures out of it first"
_PAGES_HINT = "render its pages to PNG"
_DOWNLOAD_HINT = "the download failed, or asked for a login"
_DAMAGED_HINT = "damaged, or of a kind that is not read"

_HEIC_HINT = _DAMAGED_HINT if "HEIF" in READ_FORMATS else HEIC_HINT
_JXL_HINT = _DAMAGED_HINT if "JXL" in READ_FORMATS else JXL_HINT

_KINDS = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name, hint)
    for pattern, name, hint in (
        (rb"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull`"),
        (rb"\s*(<\?xml.*|<!--.*|<!doctype svg.*)?<svg", "an SVG file", DRAWING_HINT),
        (rb"\s*(<!--.*)?<(!doctype html|html|head|body)", "an HTML page", _DOWNLOAD_HINT),
        (rb"\s*<\?xml", "an XML page", _DOWNLOAD_HINT),
        (rb"....ftyp(hei|hev|mif|msf)", "a HEIC file", _HEIC_HINT),
        (rb"....ftypavi", "an AVIF file", _DAMAGED_HINT),
        (rb"....ftypcrx", "a CR3 file", RAW_HINT),
        (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", "a video", _FRAMES_HINT),
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL file", _JXL_HINT),
        (rb"%PDF-", "a PDF file", _PAGES_HINT),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", DRAWING_HINT),
        (rb"8BPS", "a Photoshop file", LAYERS_HINT),
        (rb"gimp xcf", "a GIMP file", LAYERS_HINT),
        (rb"FUJIFILMCCD-RAW|II\x2a\x00....CR", "a camera's file", RAW_HINT),
        (rb"\x00\x00[\x01\x02]\x00[^\x00]\x00", "an icon", CONVERT_HINT),
        (rb"\x76\x2f\x31\x01", "an OpenEXR file", CONVERT_HINT),
        (rb"#\?R(ADIANCE|GBE)", "a Radiance HDR file", CONVERT_HINT),
        (rb"DDS ", "a DDS file", CONVERT_HINT),
        (rb"qoif", "a QOI file", CONVERT_HINT),
        (rb"\x1f\x8b", "a gzip file", _UNPACK_HINT),
        (rb"PK\x03\x04", "a zip file", _UNPACK_HINT),
        (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip file", _UNPACK_HINT),
        (rb"Rar!\x1a\x07", "a RAR file", _UNPACK_HINT),
        (rb"\xfd7zXZ\x00|BZh[1-9]|\x28\xb5\x2f\xfd", "a compressed file", _UNPACK_HINT),
        (rb"\x93NUMPY", "a NumPy array", CONVERT_HINT),
        (rb"PAR1", "a Parquet table", "give it as --input"),
        (rb"\x89PNG", "a PNG file", _DAMAGED_HINT),
        (rb"\xff\xd8", "a JPEG file", _DAMAGED_HINT),
        (rb"GIF8", "a GIF file", _DAMAGED_HINT),
        (rb"RIFF....WEBP", "a WebP file", _DAMAGED_HINT),
        (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", "a TIFF file", _DAMAGED_HINT),
        (rb"BM....\x00\x00\x00\x00", "a BMP file", _DAMAGED_HINT),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 file", _DAMAGED_HINT),
        (rb"\x00+\Z", "nothing but zero bytes", "the copy was interrupted"),
    )
)
"""Patterns of how files begin, and what those files are; the first that fits is taken."""


def describe(data: bytes) -> str:
    """Describes a file that is no readable image, by how it begins.

    Args:
        data: a file, of one byte or more.

    Example:
        >>> describe(b"%PDF-1.7 ...")
        'not an image that can be read: a PDF file; render its pages to PNG'
    """
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    for pattern, name, hint in _KINDS:
        if pattern.match(head):
            return f"not an image that can be read: {name}; {hint}"
    text = _text(head)
    if text:
        return f"not an image that can be read: text; {text!r}"
    return "not an image in a format that can be read"


def _text(head: bytes) -> str:
    """Returns the first words of a text; empty where it is none."""
    text = head.decode("utf-8", "ignore")
    is_whole = len(text.encode()) >= len(head) - 3  # a character may be cut at the end
    words = " ".join(text.split())
    return words[:_QUOTED_CHARACTERS] if is_whole and words.isprintable() else ""
