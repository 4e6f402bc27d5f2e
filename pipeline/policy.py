"""Acceptance policy: bounds on stored scores, and the best of several tries at one edit.

Changing a policy edits nothing again: it reads what the manifest holds.
"""

from collections.abc import Mapping
from typing import Any, Literal

from overpaint.pipeline.edit_types import EditType
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Bounds(BaseModel):
    """Accepted values of one score.

    Example:
        >>> Bounds(min=0.2).broken_by("clip_sim_dir", 0.1)
        'clip_sim_dir < 0.2'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min: float | None = None
    """Least accepted value; null for no lower bound."""
    max: float | None = None
    """Greatest accepted value; null for no upper bound."""
    allow_null: bool = False
    """Whether a row is accepted where the score could not be measured."""

    @model_validator(mode="after")
    def _is_a_bound(self) -> "Bounds":
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min} is above max = {self.max}")
        return self

    def broken_by(self, name: str, value: float | None) -> str | None:
        """Returns the rule that a value breaks, such as `clip_sim_dir < 0.2`; None for none."""
        if value is None:
            return None if self.allow_null else f"{name} is null"
        if self.min is not None and not value >= self.min:
            return f"{name} < {self.min:g}"
        if self.max is not None and not value <= self.max:
            return f"{name} > {self.max:g}"
        return None


class Best(BaseModel):
    """Choice among the tries at one edit: its candidates, methods and checkpoints.

    Tries that break a bound are not among them. Equal scores stand in the order of their keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    by: str
    """Score by which tries are ranked; a try without it is never kept."""
    order: Literal["highest", "lowest"] = "highest"
    """Scores that are the best."""
    keep: int = Field(default=1, ge=1)
    """Tries of an edit that are kept, at most."""
    min_margin: float = Field(default=0.0, ge=0)
    """Least lead of the last try kept over the next one; with less, none of the edit is kept."""

    @property
    def lost(self) -> str:
        """The reason for which a try is rejected that others are better than."""
        return f"not best by {self.by}"

    @property
    def undecided(self) -> str:
        """The reason for which all tries of an edit are rejected that are too close."""
        return f"lead by {self.by} < {self.min_margin:g}"


class Policy(BaseModel):
    """Rules that an accepted row keeps: bounds by the name of a score, and more for some types.

    Example:
        >>> policy = Policy({"clip_sim_dir": Bounds(min=0.2)})
        >>> policy.reasons({"clip_sim_dir": 0.1})
        ['clip_sim_dir < 0.2']
    """

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Bounds]  # pyright: ignore[reportIncompatibleVariableOverride]

    by_type: dict[EditType, dict[str, Bounds]] = {}
    """Bounds for rows of one edit type, which stand beside or in place of those for all."""
    best: Best | None = None
    """Choice among the tries at one edit; null keeps every one that breaks no bound."""

    def __init__(self, bounds: Mapping[str, Any] | None = None, /, **rules: Any) -> None:
        """Takes bounds by score, as a mapping or by keyword, beside `by_type` and `best`."""
        super().__init__(**{**(bounds or {}), **rules})

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """The bounds for rows of every type, by score."""
        return self.__pydantic_extra__

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that the policy reads."""
        typed = (name for bounds in self.by_type.values() for name in bounds)
        ranked = () if self.best is None else (self.best.by,)
        return tuple(dict.fromkeys((*self.bounds, *typed, *ranked)))

    def bounds_of(self, edit_type: str | None) -> Mapping[str, Bounds]:
        """Returns the bounds for rows of an edit type, in the order of the policy."""
        typed = next((own for name, own in self.by_type.items() if name == edit_type), {})
        return {**self.bounds, **typed}

    def reasons(self, row: Mapping[str, Any]) -> list[str]:
        """Lists the bounds that a row breaks, in the order of the policy."""
        bounds = self.bounds_of(row.get("edit_type")) if self.by_type else self.bounds
        broken = (bound.broken_by(name, row[name]) for name, bound in bounds.items())
        return [reason for reason in broken if reason]

    @model_serializer(mode="wrap")
    def _only_what_is_given(
        self, serialise: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Leaves out `by_type` and `best` where there are none, so that old policies stay equal."""
        del info
        given: dict[str, Any] = serialise(self)
        own = {name: given.pop(name) for name in ("by_type", "best") if name in given}
        return {**given, **{name: value for name, value in own.items() if value}}
