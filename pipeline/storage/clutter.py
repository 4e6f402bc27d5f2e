"""Files that systems and file browsers put into folders, and that nobody misses.

A folder with nothing else in it is empty, and they are nobody's images.
"""

_NAMES = ("Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
"""Those whose names do not begin with a dot, as `.DS_Store`, `.gitkeep` and `.nfs...` do."""


def is_clutter(path: str) -> bool:
    """Tells whether a path, relative to its folder, is hidden or one that a system makes."""
    return any(name.startswith(".") or name in _NAMES for name in path.split("/"))
