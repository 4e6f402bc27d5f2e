"""Checks of the URIs that a user gives, before anything is read or written there."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from overpaint.pipeline.errors import OverpaintError, UsageError
from overpaint.pipeline.storage.store import filesystem
from overpaint.pipeline.storage.uris import is_local, local_path


def check_folder(uri: str) -> None:
    """Checks that a folder is at a URI or can be made there; asks no store.

    Raises:
        UsageError: a file is in the way, the path cannot be looked at, or the scheme is no use
            here.
    """
    if not is_local(uri):
        filesystem(uri)
        return
    path = local_path(uri)
    try:
        place = _existing(path)
        is_folder = place.is_dir()
    except OSError as error:
        raise UsageError(f"{uri}: {error.strerror or error}") from error
    if not is_folder:
        where = "a file is there" if place == path else f"{place} is a file"
        raise UsageError(f"{uri}: {where}, where a folder is needed")


def check_writable(uri: str) -> None:
    """Checks that files can be written below a local folder, or one that is yet to be made.

    Raises:
        UsageError: the system forbids it.
    """
    if not is_local(uri):
        return
    place = _existing(local_path(uri))
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{uri}: nothing may be written to {place}: check its permissions")


@contextmanager
def first_contact(uri: str) -> Generator[None]:
    """Turns what a disk or a store's client raises about a URI into a `UsageError`.

    For the first request to a URI of a user: every client has errors of its own for a wrong name,
    endpoint or secret.
    """
    try:
        yield
    except OverpaintError:
        raise
    except PermissionError as error:
        advice = "its permissions" if is_local(uri) else "the credentials"
        raise UsageError(f"{uri}: it may not be read ({error}): check {advice}") from error
    except Exception as error:
        if is_local(uri) and not isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{uri}: it cannot be read: {reason}") from error


def _existing(path: Path) -> Path:
    """Returns the nearest of a path and the folders above it that exists.

    Raises:
        OSError: a name is too long, a link leads to itself, or the system forbids to look.
    """
    for place in (path, *path.parents):
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return path
