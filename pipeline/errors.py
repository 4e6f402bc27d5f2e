"""What can go wrong, as a tree.

OverpaintError
|-- UsageError        the recipe, the input or an option is wrong; nothing was started (exit 2)
|-- StoppedError      stopped early; the same command goes on (exit 3)
|-- BudgetError       too many rows failed; the rest is pending (exit 4)
`-- RowError          one row cannot be done; becomes its `error_code` in the manifest
"""

from collections.abc import Iterable
from difflib import get_close_matches


class OverpaintError(Exception):
    """Base of every error that Overpaint raises on purpose."""


class UsageError(OverpaintError):
    """The recipe, the input or an option is wrong, and nothing was started."""


class StoppedError(OverpaintError):
    """The run stopped before its end; nothing is lost and the same command goes on."""


class BudgetError(OverpaintError):
    """More rows failed than the error budget allows; the rest is pending."""


class RowError(OverpaintError):
    """One row cannot be done.

    Args:
        code: a short, stable, lower-case word for the manifest, such as `image_truncated`.
        message: one sentence, free of addresses and times, so that equal runs give equal manifests.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def near_miss(word: str, known: Iterable[str]) -> str:
    """Ends an error about an unknown `word`: the nearest known one, or all of them."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"
