"""Columns of an input as a plan takes them: read, known but not read, or carried along."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import CONDITIONS
from overpaint.pipeline.plan import Plan

_ALIKE = 0.85
"""Likeness from which one name is taken for a slip of the other."""
_ALWAYS_READ = ("source_uri", "seed", c.TAR_SPANS.name.removeprefix("in_"))
_SETTINGS = (
    *(c.INPUT_METHOD, c.EDIT_PARAMS, c.EDIT_CONCEPTS, c.STRENGTH, c.GUIDANCE_SCALE),
    *(c.SOURCE_CLASS, c.TARGET_CLASS),
)
_MEANINGFUL = {
    *(column.name.removeprefix("in_") for column in (*c.INPUT, *_SETTINGS)),
    *(condition.table_name for condition in CONDITIONS.values()),
}
"""Names of columns that some operator reads."""


@dataclass(frozen=True, slots=True)
class GivenColumns:
    """Columns of an input, by what becomes of them.

    Attributes:
        read: columns that stages or planning read.
        unread: columns that other plans read, and this one does not.
        carried: columns that only the manifest has, under the plan's names, by their own.
        slips: columns whose name is almost one that a stage would read, by that name.
    """

    read: tuple[str, ...]
    unread: tuple[str, ...]
    carried: dict[str, str]
    slips: dict[str, str]

    @classmethod
    def of(cls, plan: Plan, names: Sequence[str]) -> "GivenColumns":
        """Sorts the columns of an input.

        Args:
            plan: plan that takes them.
            names: names of the input's columns.
        """
        wanted = plan.input_column_names()
        read = [name for name in names if name in wanted or name in _ALWAYS_READ]
        others = {
            name: planned
            for name, planned in plan.planned_column_names(list(names)).items()
            if name in names and name not in read
        }
        lacking = sorted(wanted - set(names))
        slips = {name: near for name in others if (near := _slip_of(name, lacking))}
        unread = [name for name in others if name in _MEANINGFUL]
        carried = {name: others[name] for name in others if name not in unread}
        return cls(tuple(read), tuple(unread), carried, slips)

    def warnings(self) -> list[str]:
        """Returns a sentence for each column that may have been meant to be read."""
        return [
            f"column {name!r} is not read: did you mean {wanted!r}? "
            f"--map {shlex.quote(f'{name}={wanted}')} renames it"
            for name, wanted in self.slips.items()
        ]

    def lines(self) -> list[str]:
        """Returns what becomes of the columns, a line for each kind that there is."""
        carried = [f"{name} as {planned}" for name, planned in self.carried.items()]
        kinds = {
            "columns that are read": self.read,
            "given, but not read by this recipe": self.unread,
            "carried along": carried,
        }
        return [f"{words}: {', '.join(names)}" for words, names in kinds.items() if names]


def _slip_of(name: str, wanted: Sequence[str]) -> str | None:
    plain = _plain(name)
    likeness = {other: SequenceMatcher(None, plain, other).ratio() for other in wanted}
    nearest = max(likeness, key=lambda other: likeness[other], default=None)
    return nearest if nearest and likeness[nearest] >= _ALIKE else None


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
