"""What can be wrong with a run's folder: its kinds, one problem, and their count with examples."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = {
    "bad_plan": "the plan is not whole",
    "unreadable_part": "a part of the manifest cannot be read",
    "wrong_schema": "a part of the manifest has other columns or types",
    "missing_part": "a part of the manifest is gone",
    "unplanned_part": "a part of the manifest that the plan does not have",
    "missing_row": "a planned row is in no part of the manifest",
    "unplanned_row": "a row of the manifest that its part of the plan does not have",
    "duplicate_row": "a row is in the manifest more than once",
    "unended_row": "a row is neither accepted, rejected nor failed",
    "wrong_order": "a part of the manifest is not in the order of the plan",
    "bad_uri": "a row names an object that is not its own",
    "missing_object": "a row's image or mask is gone",
    "wrong_hash": "an image or a mask has other bytes than were recorded",
    "orphan": "an image or a mask that belongs to no row",
    "leftover": "a file that a killed process left",
    "wrong_success": "_SUCCESS.json and the manifest count differently",
}
"""Every kind of problem, and what it means."""

_NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        kind: one of `KINDS`.
        key: of the row; empty where it is about none.
        path: of the file, relative to the run folder.
    """

    kind: str
    key: str
    path: str


@dataclass
class Findings:
    """All that is wrong with a run: counted, with the first few of each kind as examples."""

    counts: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[Problem]] = field(default_factory=dict[str, list[Problem]])

    def add(self, problem: Problem) -> None:
        """Counts a problem."""
        self.counts[problem.kind] += 1
        found = self.examples.setdefault(problem.kind, [])
        if len(found) < _NUM_EXAMPLES:
            found.append(problem)

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[tuple[str, int, list[Problem]]]:
        """Each kind that was found, its count and its examples, in the order of `KINDS`."""
        return (
            (kind, self.counts[kind], self.examples[kind]) for kind in KINDS if self.counts[kind]
        )
