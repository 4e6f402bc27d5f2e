"""`combine`: one figure from the scores of a row: the probability that the edit is right.

Scores of one judge are not comparable between editors: it may like the wrong edits of one and
dislike the right ones of another. A logistic model over several scores, with an offset for each
editor and edit type, is: `overpaint judge fit` learns one from labelled rows and writes the stage.

    [[stage]]
    operator = "combine"
    intercept = 0.4
    weights = { lmm_score = 0.9, clip_sim_dir = 3.1 }
    means = { lmm_score = 7.2, clip_sim_dir = 0.21 }
    offsets = { "method=infedit" = -0.3, "method=infedit edit_type=texture" = -1.2 }

    [policy]
    best = { by = "right_probability" }
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Kind,
    NewColumns,
    Operator,
)
from pydantic import Field, model_validator

RIGHT_PROBABILITY = c.score(
    "right_probability", "probability that the edit is right, by the stage's logistic model, 0 to 1"
)
METHOD, EDIT_TYPE = c.METHOD.name, c.EDIT_TYPE.name


class Combine(Operator[None]):
    """Combines scores of each row by a logistic model.

    The model is the logistic function of `intercept`, of each weight times what its score is above
    its mean, and of the row's offsets. A score that is null counts as its mean.
    """

    kind: ClassVar[Kind] = "score"

    weights: dict[str, float] = Field(default={})
    """What one unit of a score adds to the log odds, by the score's column; at least one of
    `weights` and `offsets` has to be given."""
    means: dict[str, float] = Field(default={})
    """What each score is compared with, and stands for one that is null; 0 for those not named."""
    intercept: float = Field(default=0.0, allow_inf_nan=False)
    """Log odds of a row whose scores are their means."""
    offsets: dict[str, float] = Field(default={})
    """What a row's editor, edit type or both add to the log odds, by `method=NAME`,
    `edit_type=NAME` or `method=NAME edit_type=NAME`."""
    batch_size: int = Field(default=64, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows in one call."""

    @model_validator(mode="after")
    def _is_a_model(self) -> "Combine":
        for field in ("weights", "means", "offsets"):
            for name, value in getattr(self, field).items():
                if not math.isfinite(value):
                    raise ValueError(f"{field}.{name} = {value}: it must be finite")
        for name in self.means:
            if name not in self.weights:
                raise ValueError(f"means.{name}: no weight is of that score")
        for name in self.offsets:
            if not all(part.split("=")[0] in (METHOD, EDIT_TYPE) for part in name.split(" ")):
                raise ValueError(
                    f"offsets has {name!r}: write method=NAME, edit_type=NAME, or both with a "
                    "space between them"
                )
        return self

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The scores."""
        return tuple(c.score(name, "a score of an earlier stage") for name in self.weights)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The editor and the type of the edit, where they count."""
        return (c.METHOD, c.EDIT_TYPE) if self.offsets else ()

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The probability."""
        return (RIGHT_PROBABILITY,)

    def check(self) -> None:
        """Checks that there is a model.

        Raises:
            ValueError: there is none.
        """
        if not self.weights and not self.offsets:
            raise ValueError("it has no weights: `overpaint judge fit` writes them")

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Combines the scores of each row."""
        del model
        return [self._combined(row) for row in rows]

    def _combined(self, row: Row) -> NewColumns:
        log_odds = self.intercept
        for name, weight in self.weights.items():
            if (value := row[name]) is not None:
                log_odds += weight * (value - self.means.get(name, 0.0))
        names = offset_names(row.get(METHOD), row.get(EDIT_TYPE)) if self.offsets else ()
        log_odds += sum(self.offsets.get(name, 0.0) for name in names)
        return {RIGHT_PROBABILITY.name: logistic(log_odds)}


def offset_names(method: str | None, edit_type: str | None) -> tuple[str, ...]:
    """Returns the names of the offsets of a row."""
    own, kind = f"{METHOD}={method or ''}", f"{EDIT_TYPE}={edit_type or ''}"
    return own, kind, f"{own} {kind}"


def logistic(log_odds: float) -> float:
    """Returns the probability of log odds."""
    return (1 + math.tanh(log_odds / 2)) / 2
