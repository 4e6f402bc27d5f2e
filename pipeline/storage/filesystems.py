"""Filesystems behind URIs, by fsspec; a scheme that cannot be used here is a usage error."""

from typing import Any

import fsspec
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.storage.uris import is_local

_USUAL = ("file", "s3", "gs", "az", "abfs", "hf", "http", "https")
"""Schemes that are named where a scheme is unknown and resembles none."""


def scheme_of(uri: str) -> str:
    """Returns the scheme of a URI; `file` for a path."""
    return "file" if is_local(uri) else uri.split("://", 1)[0]


def check_known(uri: str) -> None:
    """Checks that a URI has a scheme that fsspec knows, whether or not it can be used here.

    Raises:
        UsageError: names the scheme that is nearest.
    """
    scheme = scheme_of(uri)
    if scheme not in fsspec.available_protocols():
        known = near_miss(scheme.lower(), fsspec.available_protocols())
        hint = known if known.startswith("did") else f"known are {', '.join(_USUAL)} and others"
        raise UsageError(f"{uri}: unknown scheme {scheme!r}: {hint}")


def make_filesystem(uri: str, options: dict[str, Any] | None = None) -> Any:
    """Returns the filesystem of a URI.

    Args:
        uri: path or URL.
        options: options of the filesystem; None for those that the URI has, such as its host.

    Raises:
        UsageError: the scheme is unknown, needs a package that is not installed, or needs more
            than a URI says.
    """
    check_known(uri)
    scheme = scheme_of(uri)
    try:
        kind: Any = fsspec.get_filesystem_class(scheme)
        given: dict[str, Any] = kind._get_kwargs_from_urls(uri) if options is None else options
        return fsspec.filesystem(scheme, **given)
    except ImportError as error:
        raise UsageError(f"{uri}: {scheme}:// cannot be used here: {error}") from error
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"{uri}: {scheme}:// cannot be opened: {reason}") from error
