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
        UsageError: it is empty, no file can have that path, or its name is not text.
    """
    if not uri:
        raise UsageError("an empty text stands where a path or URL should be")
    if not uri.rpartition("://")[2].strip("/") and "://" in uri:
        raise UsageError(f"{uri}: names nothing but a scheme")
    if not is_local(uri):
        return uri.rstrip("/")
    try:
        path = str(local_path(uri).expanduser().resolve())
        path.encode()
    except (OSError, RuntimeError, ValueError) as error:
        name = uri.encode(errors="backslashreplace").decode()
        is_no_text = isinstance(error, UnicodeEncodeError)
        reason = "the name is not UTF-8 text; rename it" if is_no_text else error
        raise UsageError(f"{name}: {reason}") from error
    return path
