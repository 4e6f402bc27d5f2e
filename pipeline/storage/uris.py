"""URIs and paths: a path of this machine, also as `file://` writes it, or any fsspec URL."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from overpaint.pipeline.errors import UsageError

_FILE_SCHEME = re.compile(r"file:(?://(?:localhost(?=/))?|(?=/))", re.IGNORECASE)
"""`file://`, `file://localhost` and the short form `file:` before an absolute path."""


def is_local(uri: str) -> bool:
    """Tells whether a URI is a path of this machine."""
    return "://" not in uri or _FILE_SCHEME.match(uri) is not None


def local_path(uri: str) -> Path:
    """Returns the path of a local URI.

    Percent escapes of a `file:` URI are decoded, unless a file has the name as it stands.
    """
    match = _FILE_SCHEME.match(uri)
    if match is None:
        return Path(uri)
    literal = uri[match.end() :]
    if "%" not in literal or os.path.lexists(literal):
        return Path(literal)
    return Path(os.fsdecode(unquote_to_bytes(literal)))


def join(base_uri: str, relative: str) -> str:
    """Resolves a path against a base; a URI or an absolute path stands for itself.

    Example:
        >>> join("s3://bucket/run", "images/a.png")
        's3://bucket/run/images/a.png'
    """
    if not base_uri or is_absolute(relative):
        return relative
    return f"{base_uri.rstrip('/')}/{relative}"


def is_absolute(uri: str) -> bool:
    """Tells whether a URI stands for itself, whatever the base."""
    return "://" in uri or uri.startswith("/") or _FILE_SCHEME.match(uri) is not None


def normalise(uri: str) -> str:
    """Returns a URI without a trailing slash, a local path as an absolute one.

    Raises:
        UsageError: the URI is empty, or its name is no text that files of a run could hold.
    """
    if not uri.strip():
        raise UsageError("a path is empty: an unset variable of the shell, perhaps")
    if not is_local(uri):
        return uri.rstrip("/")
    try:
        path = str(local_path(uri).expanduser().resolve())
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{uri!r}: no path can have that name: {error}") from error
    if not _is_text(path):
        name = path.encode(errors="backslashreplace").decode()
        raise UsageError(f"{name}: the name is not UTF-8 text; rename it")
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
