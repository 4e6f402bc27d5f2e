"""Files whose names differ from what a table says in their spelling alone.

Tables are made on one machine and files lie on another: letter case, the two forms of accents,
backslashes and blanks at an end are what gets lost between them.
"""

import os
import unicodedata
from functools import lru_cache

_NUM_FOLDERS = 64


def other_spelling(path: str) -> str | None:
    """Returns the part of a file's path that is spelled otherwise; None if there is no such file.

    Args:
        path: absolute path of this machine, at which no file is.
    """
    found = "/"
    for name in path.replace("\\", "/").split("/")[1:]:
        exact = os.path.join(found, name)  # noqa: PTH118
        if os.path.lexists(exact):
            found = exact
        elif spelled := _names(found).get(_folded(name)):
            found = os.path.join(found, spelled)  # noqa: PTH118
        else:
            return None
    if not os.path.isfile(found):  # noqa: PTH113
        return None
    return os.path.relpath(found, os.path.commonpath([path, found]))


@lru_cache(_NUM_FOLDERS)
def _names(folder: str) -> dict[str, str]:
    """Returns the names in a folder by their folded spelling, the first of several."""
    try:
        names = sorted(os.listdir(folder), reverse=True)  # noqa: PTH208
    except OSError:
        return {}
    return {_folded(name): name for name in names}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()
