"""The kinds of problem that a run folder can have, and a count of them with examples."""

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
    "broken_shard": "a shard of rows' images is cut off or damaged, or has a member twice",
    "orphan": "an image or a mask that belongs to no row",
    "leftover": "a file that a killed process left",
    "wrong_success": "_SUCCESS.json and the manifest count differently",
}
"""Every kind of problem, and its meaning."""

_NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a run folder.

    Attributes:
        kind: one of `KINDS`.
        key: key of the row at fault; empty where no row is.
        path: path of the file at fault, relative to the run folder.
    """

    kind: str
    key: str
    path: str


@dataclass
class Findings:
    """All problems of a run folder: counted, with the first few of each kind as examples.

    Attributes:
        counts: number of problems by kind.
        examples: first problems of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[Problem]] = field(default_factory=dict[str, list[Problem]])

    def add(self, problem: Problem) -> None:
        """Counts a problem."""
        self.counts[problem.kind] += 1
        examples = self.examples.setdefault(problem.kind, [])
        if len(examples) < _NUM_EXAMPLES:
            examples.append(problem)

    def __len__(self) -> int:
        """Counts the problems of all kinds."""
        return self.counts.total()

    def __iter__(self) -> Iterator[tuple[str, int, list[Problem]]]:
        """Yields each kind that occurs, its count and its examples, in the order of `KINDS`."""
        return (
            (kind, self.counts[kind], self.examples[kind]) for kind in KINDS if self.counts[kind]
        )
