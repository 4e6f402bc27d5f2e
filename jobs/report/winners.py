"""Accepted rows by edit type and editor: which method and checkpoint wins which type."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from overpaint.jobs.report.format import share, whole
from overpaint.jobs.report.page import Line
from overpaint.jobs.report.stages import EditColumns
from overpaint.pipeline import columns as c
from overpaint.pipeline.runs.manifest import ACCEPTED


class Editor(NamedTuple):
    """A method and the checkpoint that it ran on."""

    method: str
    checkpoint: str


class Wins(NamedTuple):
    """Counts of an editor's rows of one edit type."""

    num_rows: int
    num_accepted: int


class WinnerCounter:
    """Rows by edit type and editor, where an editing stage has several editors.

    Args:
        edit: columns of the editing stage.
    """

    def __init__(self, edit: EditColumns) -> None:
        self._edit = edit
        self._rows: Counter[tuple[str, Editor]] = Counter()
        self._accepted: Counter[tuple[str, Editor]] = Counter()

    @property
    def groups(self) -> dict[str, dict[Editor, Wins]]:
        """The editors of each edit type, the one with the most accepted rows first.

        Types without a name, and types of a stage with one editor, are left out.
        """
        if len({editor for _, editor in self._rows}) < 2:
            return {}
        groups: dict[str, dict[Editor, Wins]] = {}
        for edit_type, editor in sorted(self._rows, key=self._order):
            group = edit_type, editor
            wins = Wins(self._rows[group], self._accepted[group])
            groups.setdefault(edit_type, {})[editor] = wins
        return groups

    def _order(self, group: tuple[str, Editor]) -> tuple[str, int, Editor]:
        return group[0], -self._accepted[group], group[1]

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns of the stage, the edit type and the status."""
        del part
        names = {self._edit.method, self._edit.checkpoint, c.EDIT_TYPE.name, c.STATUS.name}
        return names & set(schema.names)

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part that were edited."""
        del part
        names = (c.EDIT_TYPE.name, self._edit.method, self._edit.checkpoint)
        columns = [table[name].to_pylist() for name in (*names, c.STATUS.name)]
        for edit_type, method, checkpoint, status in zip(*columns, strict=True):
            if edit_type and method:
                group = edit_type, Editor(method, checkpoint or "")
                self._rows[group] += 1
                self._accepted[group] += status == ACCEPTED


def winner_lines(counters: Sequence[WinnerCounter]) -> list[Line]:
    """Returns a line for each editor of each edit type, the type's winner first."""
    return [
        line
        for counter in counters
        for edit_type, editors in counter.groups.items()
        for line in _type_lines(edit_type, editors)
    ]


def _type_lines(edit_type: str, editors: dict[Editor, Wins]) -> Iterator[Line]:
    total = sum(wins.num_accepted for wins in editors.values())
    for editor, wins in editors.items():
        yield Line(
            label=f"{edit_type}, {editor.method}",
            figures=(
                whole(wins.num_rows),
                share(wins.num_accepted, wins.num_rows),
                share(wins.num_accepted, total),
            ),
            width=100 * wins.num_accepted / total if total else 0.0,
            choose={"type": edit_type, "method": editor.method},
            detail=editor.checkpoint,
        )
