"""URIs and paths: a path of this machine, or any fsspec URL such as `s3://`."""

from pathlib import Path


def is_local(uri: str) -> bool:
    """Whether `uri` is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path of a local `uri`."""
    return Path(uri.removeprefix("file://"))


def join(base_uri: str, relative: str) -> str:
    """`relative` seen from `base_uri`; a URI or an absolute path stands for itself."""
    if not base_uri or "://" in relative or relative.startswith("/"):
        return relative
    return f"{base_uri.rstrip('/')}/{relative}"


def normalise(uri: str) -> str:
    """A URI without a trailing slash; a local path made absolute."""
    return str(local_path(uri).expanduser().resolve()) if is_local(uri) else uri.rstrip("/")
