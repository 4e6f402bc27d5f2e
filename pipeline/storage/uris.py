"""URIs and paths: a path of this machine, or any fsspec URL such as `s3://`."""

from pathlib import Path


def is_local(uri: str) -> bool:
    """Tells whether a URI is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Returns the path of a local URI."""
    return Path(uri.removeprefix("file://"))


def join(base_uri: str, relative: str) -> str:
    """Resolves a path against a base; a URI or an absolute path stands for itself.

    Example:
        >>> join("s3://bucket/run", "images/a.png")
        's3://bucket/run/images/a.png'
    """
    if not base_uri or "://" in relative or relative.startswith("/"):
        return relative
    return f"{base_uri.rstrip('/')}/{relative}"


def normalise(uri: str) -> str:
    """Returns a URI without a trailing slash, a local path as an absolute one."""
    return str(local_path(uri).expanduser().resolve()) if is_local(uri) else uri.rstrip("/")
