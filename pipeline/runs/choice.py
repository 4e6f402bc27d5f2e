"""The best of several tries at one edit, among rows that keep every bound of the policy.

Tries at one edit are the rows of one source whose input says the same about what is asked for, and
whose words are the same where a stage has written them; they differ in how it is done: the
candidate, the method, its parameters, the seed. Exports group rows by the same words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from overpaint.pipeline import columns as c
from overpaint.pipeline.policy import Best

EDITOR = (c.INPUT_METHOD, c.EDIT_PARAMS, c.STRENGTH, c.GUIDANCE_SCALE)
"""Columns of a planned row that say by which method, and with which settings, it is to be done."""
_HOW = frozenset(
    column.name.removeprefix("in_") for column in (c.KEY, c.CANDIDATE, c.SEED, *EDITOR)
)


_WORDS = tuple(column.name for column in (c.INSTRUCTION, c.TARGET_PROMPT, c.EDIT_TYPE))


def request_of(planned: Mapping[str, Any]) -> str:
    """Returns what a planned row asks for, without how it is to be done."""
    asked = sorted(planned.items())
    return repr([(name, v) for name, v in asked if name.removeprefix("in_") not in _HOW])


def not_chosen(
    rows: Sequence[Mapping[str, Any]], planned: Sequence[Mapping[str, Any]], best: Best
) -> dict[str, str]:
    """Returns why rows are not kept that break no bound, by their key.

    Args:
        rows: rows that break no bound, with the score that they are ranked by.
        planned: the same rows as they were planned.
        best: rule of choice.
    """
    tries: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row, asked in zip(rows, planned, strict=True):
        words = (row.get(name) for name in _WORDS)
        tries.setdefault((request_of(asked), *words), []).append(row)
    return {
        key: reason for group in tries.values() for key, reason in _reasons(group, best).items()
    }


def _reasons(tries: Sequence[Mapping[str, Any]], best: Best) -> dict[str, str]:
    """Returns why tries at one edit are not kept, by their key."""
    sign = -1.0 if best.order == "highest" else 1.0
    ranked = sorted((sign * t[best.by], t["key"]) for t in tries if t[best.by] is not None)
    kept, others = ranked[: best.keep], ranked[best.keep :]
    lost = {t["key"] for t in tries} - {key for _, key in kept}
    reasons = dict.fromkeys(sorted(lost), best.lost)
    if others and others[0][0] - kept[-1][0] < best.min_margin:
        reasons |= {key: best.undecided for _, key in ranked}
    return reasons
