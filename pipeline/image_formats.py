"""Formats of pictures: those that can be decoded, their endings, and known ones that cannot be.

HEIC and JPEG XL are read where their Pillow plugins are installed.
"""

from importlib import import_module
from typing import Any

from PIL import Image

_PLUGINS = {
    "HEIF": ("pillow_heif", "pillow-heif", "register_heif_opener"),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin", ""),
}
"""Optional readers by format: module, distribution, and function that registers the reader; a
module without one registers its reader itself."""


def _registered(module: str, register: str) -> bool:
    """Registers a plugin of Pillow; returns False where it is not installed."""
    try:
        plugin: Any = import_module(module)
    except ImportError:
        return False
    if register:
        getattr(plugin, register)()
    return True


_ADDED = tuple(
    name for name, (module, _, register) in _PLUGINS.items() if _registered(module, register)
)
READ_FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM"),
    *_ADDED,
)
"""Pillow's other readers are for formats that are no photographs, and some start programs."""

IMAGE_SUFFIXES = tuple(
    sorted(
        suffix
        for suffix, name in Image.registered_extensions().items()
        # Pillow's JPEG reader opens the several pictures of a MPO file.
        if name in READ_FORMATS or name == "MPO"
    )
)
"""Endings of files that can be decoded, lower-case, each with its dot."""

HEIC_HINT = "pip install pillow-heif, or convert it to JPEG or PNG"
JXL_HINT = "pip install pillow-jxl-plugin, or convert it to JPEG or PNG"
DRAWING_HINT = "it has no pixels; render it to PNG"
RAW_HINT = "a camera's raw file; develop it to TIFF or JPEG"
LAYERS_HINT = "layers of an editor; export them as PNG or TIFF"
CONVERT_HINT = "convert it to PNG or TIFF"

KNOWN_UNREAD = {
    suffix: hint
    for suffixes, hint in (
        (".heic .heics .heif .heifs .hif", HEIC_HINT),
        (".jxl", JXL_HINT),
        (".svg .svgz .eps .ai .wmf .emf", DRAWING_HINT),
        (".arw .cr2 .cr3 .crw .dng .nef .nrw .orf .pef .raf .raw .rw2 .srw", RAW_HINT),
        (".psd .psb .xcf .kra", LAYERS_HINT),
        (".dds .exr .hdr .icns .ico .pcx .qoi .sgi .tga .xbm .xpm", CONVERT_HINT),
    )
    for suffix in suffixes.split()
    if suffix not in IMAGE_SUFFIXES
}
"""Endings of pictures that cannot be decoded, lower-case: hints at what makes them readable."""
