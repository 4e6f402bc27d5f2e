"""Errors that Overpaint raises on purpose, as a tree.

OverpaintError        a fault of Overpaint itself (exit 5)
|-- UsageError        the recipe, the input or an option is wrong; nothing was started (exit 2)
|   `-- BusyError     another runner is at work on the run
|-- StoppedError      stopped early; the same command goes on (exit 3)
|-- BudgetError       too many rows failed; the rest is pending (exit 4)
`-- RowError          one row cannot be done; its code is the row's `error_code`
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import ClassVar

from pydantic import ValidationError


class OverpaintError(Exception):
    """Base of every error that Overpaint raises on purpose; alone, a fault of Overpaint itself.

    Attributes:
        exit_code: exit code of a command that the error ends.
    """

    exit_code: ClassVar[int] = 5


class UsageError(OverpaintError):
    """Error in the recipe, the input or an option; nothing was started."""

    exit_code = 2


class BusyError(UsageError):
    """Refusal of a run at which another runner is at work."""


class StoppedError(OverpaintError):
    """Early end of a run; nothing is lost and the same command goes on."""

    exit_code = 3


class BudgetError(OverpaintError):
    """Early end of a run with more failed rows than its budget allows; the rest is pending."""

    exit_code = 4


class RowError(OverpaintError):
    """Failure of one row; the run goes on.

    Args:
        code: short, stable, lower-case word for the manifest, such as `image_truncated`.
        message: one sentence, free of addresses and times, so that equal runs give equal manifests.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def near_miss(word: str, names: Iterable[str]) -> str:
    """Words the end of an error about an unknown word: the nearest name, or all names.

    Example:
        >>> near_miss("masc", ["mask", "edit"])
        "did you mean 'mask'?"
    """
    ordered = sorted(names)
    close = get_close_matches(word, ordered, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(ordered)}" if ordered else "there are none"


def first_error(
    error: ValidationError, known: Iterable[str], renamed: Mapping[str, str] | None = None
) -> str:
    """Returns the first complaint of a validation as one sentence.

    Args:
        error: raised by pydantic.
        known: names of the fields that there are, for the near miss.
        renamed: former names of fields and their present names.
    """
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = field.rsplit(".", 1)[-1]
        if renamed and name in renamed:
            return f"field {name!r} is called {renamed[name]!r} now"
        return f"unknown field {field!r}: {near_miss(name, known)}"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return message
    return f"{field} = {first['input']!r}: {message[:1].lower()}{message[1:]}"
