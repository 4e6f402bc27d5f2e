"""Choices of an edit stage, as a recipe writes them: tables that share the stage's fields."""

from collections.abc import Mapping
from typing import Any

from overpaint.pipeline.errors import first_error, near_miss
from overpaint.pipeline.variant import VariantOperator
from pydantic import ValidationError

CHOOSING = frozenset({"choices", "default_choice", "routes", "routes_from"})
"""Fields of the operator by which rows choose."""
_OWN = CHOOSING | {"settings"}


def with_choices(kind: type[VariantOperator[Any]], data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of an edit whose rows choose: each choice as an edit of its own.

    Args:
        kind: class of the edit, and of each choice.
        data: fields as a recipe gives them, `choices` among them.

    Raises:
        ValueError: a choice is wrong, or a field beside them belongs into one; one sentence.
    """
    shared = kind.model_fields.keys() - _OWN
    choices = _choices(kind, data["choices"], {k: v for k, v in data.items() if k in shared})
    for name in data:
        if name not in shared | CHOOSING:
            raise ValueError(_unknown(kind, name, choices))
    default: Any = data.get("default_choice") or next(iter(choices))
    if not isinstance(default, str) or default not in choices:
        raise ValueError(f"default_choice = {default!r}: {near_miss(str(default), choices)}")
    own = {"settings": choices[default].settings, "default_choice": default}
    return {**data, **own, "choices": choices}


def _choices(
    kind: type[VariantOperator[Any]], entries: Any, shared: Mapping[str, Any]
) -> dict[str, VariantOperator[Any]]:
    if not isinstance(entries, Mapping):
        raise ValueError(f"choices = {entries!r}: a table of tables")
    choices: dict[str, VariantOperator[Any]] = {}
    for name, entry in entries.items():
        if not isinstance(entry, Mapping | kind):
            raise ValueError(f"choices.{name} = {entry!r}: a table")
        fields = {**shared, "method": name, **entry} if isinstance(entry, Mapping) else entry
        try:
            choices[name] = kind.model_validate(fields)
        except ValidationError as error:
            known = kind.model_fields.keys() - {"settings"}
            raise ValueError(f"choices.{name}: {first_error(error, known)}") from error
    return choices


def _unknown(
    kind: type[VariantOperator[Any]], name: str, choices: Mapping[str, VariantOperator[Any]]
) -> str:
    """Returns what is wrong with a key beside choices that is not one of the operator's."""
    fields = {field for edit in choices.values() for field in type(edit.settings).model_fields}
    if name in {"method", "settings", *fields}:
        return f"{name} belongs into the choices, such as choices.x.{name}"
    if name in kind.renamed:
        return f"field {name!r} is called {kind.renamed[name]!r} now"
    return f"unknown field {name!r}: {near_miss(name, kind.model_fields.keys() - _OWN)}"
