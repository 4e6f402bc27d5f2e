"""Complaints of pydantic as one sentence for the user of a recipe."""

from collections.abc import Iterable, Mapping

from overpaint.pipeline.errors import near_miss
from pydantic import ValidationError


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
