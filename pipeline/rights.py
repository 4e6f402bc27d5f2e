"""Columns that say whose a picture is, and what may be done with it; they are always carried on."""

import re

_RIGHTS = re.compile(r"(in_)?(.*_)?(licen[cs]e|attribution|copyright|credit|terms)(_.*)?")


def tells_rights(name: str) -> bool:
    """Tells whether a column of that name says whose a picture is or what may be done with it."""
    return _RIGHTS.fullmatch(name) is not None
