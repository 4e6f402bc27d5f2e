"""Scores that a reply states under a key of JSON; a reply that cannot be read states none.

No figure is guessed: a missing score, one out of its range, or a list of another length is None.
"""

import json
import re
from typing import Any

from overpaint.operators.measures.verdicts import json_objects

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MAX_REASON = 2000


def stated_scores(
    reply: str, count: int, low: float, high: float, *, key: str = "score"
) -> tuple[float, ...] | None:
    """Reads the scores of a reply such as `{"score": [7, 9], "reasoning": "..."}`.

    Where an object cannot be parsed as JSON, as with quotes inside of its reasoning, the last list
    after the key is read alone.

    Args:
        reply: reply of a model.
        count: number of scores; one may stand without a list.
        low: least score.
        high: greatest score.
        key: key of the scores.
    """
    for values in json_objects(reply):
        if key in values:
            return _checked(values[key], count, low, high)
    lists = re.findall(rf'"{key}"\s*:\s*(\[[^\[\]]*\]|-?\d+(?:\.\d+)?)', reply)
    if not lists:
        return None
    try:
        return _checked(json.loads(lists[-1]), count, low, high)
    except ValueError:
        return None


def stated_reason(reply: str, *, key: str = "reasoning") -> str | None:
    """Reads the reasoning of a reply, in one line; None where it states none."""
    for values in json_objects(reply):
        reason = values.get(key)
        if isinstance(reason, str) and reason.strip():
            return " ".join(reason.split())[:_MAX_REASON]
    return None


def number(value: Any, low: float, high: float) -> float | None:
    """Returns a JSON value as a number from `low` to `high`; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if low <= value <= high else None


def _checked(value: Any, count: int, low: float, high: float) -> tuple[float, ...] | None:
    values = value if isinstance(value, list) else [value]
    numbers = [number(each, low, high) for each in values]
    kept = tuple(each for each in numbers if each is not None)
    return kept if len(kept) == len(numbers) == count else None
