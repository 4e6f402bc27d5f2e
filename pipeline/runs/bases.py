"""Base of relative sources: the folder of a table, or `images` in it, where more of them lie.

A few dozen rows are looked at, spread over the table: one missing file decides nothing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from overpaint.pipeline.storage.packed import file_of
from overpaint.pipeline.storage.store import is_file
from overpaint.pipeline.storage.uris import is_absolute, join

SAMPLE_ROWS = 32
"""Rows of a table whose sources are looked for before anything starts."""
_IMAGES = "images"
_NUM_THREADS = 16


@dataclass(frozen=True, slots=True)
class Base:
    """Folder or prefix of a table's relative sources.

    Attributes:
        uri: its URI.
        looked_at: relative sources that were looked for.
        found: those of them that lie there.
    """

    uri: str
    looked_at: int = 0
    found: int = 0

    def __str__(self) -> str:
        return (
            f"relative sources are below {self.uri}: {self.found} of {self.looked_at} that were "
            "looked for lie there"
        )


def sampled_rows(num_rows: int) -> list[int]:
    """Returns places of rows spread over a table: the first, the last, and some between."""
    last = num_rows - 1
    steps = min(SAMPLE_ROWS, num_rows)
    return sorted({round(last * step / max(1, steps - 1)) for step in range(steps)})


def find_base(sources: Sequence[str], folder: str, given: str | None = None) -> Base:
    """Finds the base of relative sources.

    Args:
        sources: some of a table's.
        folder: folder or prefix of the table.
        given: base that the user names; None lets the sources decide.

    Raises:
        PermissionError: the store refuses to tell.
    """
    relative = [source for source in sources if not is_absolute(source)]
    base = _counted(given or folder, relative)
    if given or base.found == base.looked_at:
        return base
    images = _counted(join(folder, _IMAGES), relative)
    return images if images.found > base.found else base


def _counted(uri: str, relative: Sequence[str]) -> Base:
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = sum(pool.map(_is_there, [join(uri, source) for source in relative]))
    return Base(uri, len(relative), found)


def _is_there(uri: str) -> bool:
    try:
        return is_file(file_of(uri))
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False  # no file can have that name
