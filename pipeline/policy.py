"""Acceptance policy: bounds on stored scores. Changing a policy edits nothing again."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel, model_validator


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


class Policy(RootModel[dict[str, Bounds]]):
    """Bounds by the name of a score column; a row is accepted where it keeps all of them.

    Example:
        >>> policy = Policy({"clip_sim_dir": Bounds(min=0.2)})
        >>> policy.reasons({"clip_sim_dir": 0.1})
        ['clip_sim_dir < 0.2']
    """

    model_config = ConfigDict(frozen=True)
    root: dict[str, Bounds] = {}

    def reasons(self, row: Mapping[str, Any]) -> list[str]:
        """Lists the rules that a row breaks, in the order of the policy."""
        broken = (bounds.broken_by(name, row[name]) for name, bounds in self.root.items())
        return [reason for reason in broken if reason]
