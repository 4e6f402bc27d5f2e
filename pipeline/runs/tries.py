"""More tries at edits of which no try is accepted.

A try is a planned row like any other: the next candidate of the editor that has tried least often,
with a key and a seed of its own. It stands beside its edit's other tries, whose keys stay, in a
plan that only grows; so it is the row that planning would have made for more candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.identity import row_seed
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.choice import EDITOR, request_of
from overpaint.pipeline.runs.expansion import KeyForm

_EDITOR = tuple(column.name for column in EDITOR)
_SEEDS = 2**63
_Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Request:
    """Rows of a part that ask for one edit.

    Attributes:
        tries: rows as they were planned.
        last: place of the last of them in the part.
    """

    tries: _Rows
    last: int


class MoreTries:
    """Planner of one more try at each edit of which none is accepted.

    Args:
        plan: plan of the run.
        most: tries that an edit may have, those that were planned first among them.
        methods: choices of the plan's edit that may try too, beside the editors of the rows.
    """

    def __init__(self, plan: Plan, most: int, methods: Sequence[str] = ()) -> None:
        self._most = most
        self._methods = methods
        self._forms = PerChoice(plan, KeyForm)

    def added(self, planned: _Rows, ended: _Rows) -> list[dict[str, Any]]:
        """Returns the rows of a plan part with the new tries among them; none where there are none.

        An edit is tried again that was made and rejected: by the policy, or by a stage after it.

        Args:
            planned: rows of the plan part.
            ended: the same rows in the manifest.

        Raises:
            UsageError: the rows cannot be given further tries.
        """
        new: dict[int, dict[str, Any]] = {}
        keys = {row["key"] for row in planned}
        for request in _rejected(planned, ended):
            more = self._next(request.tries) if len(request.tries) < self._most else None
            if more is not None and more["key"] not in keys:
                new[request.last] = more
        if not new:
            return []
        pairs = ((row, new.get(place)) for place, row in enumerate(planned))
        return [dict(row) for pair in pairs for row in pair if row is not None]

    def _next(self, tries: _Rows) -> dict[str, Any] | None:
        """Returns the next try at an edit; None where no editor could do otherwise than before."""
        by_editor: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in tries:
            by_editor.setdefault(_editor(row), []).append(row)
        for method in self._methods:
            editor = self._with_method(tries[0], method)
            by_editor.setdefault(_editor(editor), [])
        for editor, own in sorted(by_editor.items(), key=lambda item: len(item[1])):
            row = dict(zip(_EDITOR, editor, strict=True))
            given = {name: value for name, value in row.items() if name in tries[0]}
            form = self._form({**tries[0], **given})
            if form.draws or not own:
                return _another(form, {**tries[0], **given}, own)
        return None

    def _with_method(self, row: Mapping[str, Any], method: str) -> Mapping[str, Any]:
        if c.INPUT_METHOD.name not in row:
            raise UsageError(
                f"--method {method}: rows of this run choose no method: give its edit `choices`, "
                "and its rows `edits`"
            )
        return {**row, **dict.fromkeys(_EDITOR), c.INPUT_METHOD.name: method}

    def _form(self, row: Mapping[str, Any]) -> KeyForm:
        try:
            return self._forms.of(row)
        except RowError as error:
            raise UsageError(f"--method {row[c.INPUT_METHOD.name]}: {error.message}") from error


def _editor(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _EDITOR)


def _rejected(planned: _Rows, ended: _Rows) -> Iterator[_Request]:
    """Yields the edits of a part that were made and of which none is accepted."""
    tries: dict[str, list[int]] = {}
    for place, row in enumerate(planned):
        tries.setdefault(request_of(row), []).append(place)
    for places in tries.values():
        statuses = {ended[place]["status"] for place in places}
        made = any(ended[p]["status"] == "rejected" and ended[p]["edited_uri"] for p in places)
        if made and "accepted" not in statuses:
            yield _Request([planned[place] for place in places], places[-1])


def _another(form: KeyForm, row: Mapping[str, Any], own: _Rows) -> dict[str, Any]:
    """Returns a row as its next candidate.

    Args:
        form: makes its key.
        row: row of the edit, with the editor's settings.
        own: tries of this editor.

    Raises:
        UsageError: keys were made otherwise when the run was planned.
    """
    last = max(own, key=lambda one: one["candidate"], default=None)
    given = None if last is None else _given_seed(last)
    if last is not None:
        found = form.identity.key({**last, "seed": given}, last["candidate"])
        if found != last["key"]:
            raise UsageError(
                f"row {last['key']} was planned by another version of Overpaint, which made keys "
                "otherwise: plan the run anew with --update"
            )
    candidate = 0 if last is None else last["candidate"] + 1
    key = form.identity.key({**row, "seed": given}, candidate)
    seed = row_seed(key) if given is None else (given + candidate) % _SEEDS
    return {**row, "key": key, "candidate": candidate, "seed": seed}


def _given_seed(row: Mapping[str, Any]) -> int | None:
    """Returns the seed that the input gave an edit; None where the row's is made of its key."""
    is_own = row["seed"] == row_seed(row["key"])
    return None if is_own else (row["seed"] - row["candidate"]) % _SEEDS
