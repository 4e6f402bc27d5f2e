"""EditEval's verdict on an edit: four factors of 0 to 10, read from a reply in words.

The LMM Score is 0.4 accuracy + 0.3 preservation + 0.2 quality + 0.1 realism ("Diffusion Model-Based
Image Editing: A Survey", arXiv 2402.17525, section 8). There several edits are scored together in
one chat; here each is scored alone, so the figures are a variant to be calibrated. A reply that
cannot be read is not a verdict: it is never turned into a number.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

WEIGHTS = {"accuracy": 0.4, "preservation": 0.3, "quality": 0.2, "realism": 0.1}
"""What each factor counts in the LMM Score."""
MOST = 10.0

PROMPT = """\
The first picture is a source, the second is what an editor made of it. The editor was asked:
"{instruction}"
Judge the edit by four factors, each with a whole number from 0 (worst) to 10 (best):
accuracy - the edit does what was asked, neither less nor something else; 0 if nothing changed
preservation - everything that should not change is as it was in the source
quality - the edited picture is clean: no artefacts, blur, seams or noise
realism - light, perspective, shapes and proportions obey natural laws
Say in one or two sentences what was done. Then end with one line of JSON of this form:
{"accuracy": NUMBER, "preservation": NUMBER, "quality": NUMBER, "realism": NUMBER}"""
"""What a general model is asked, with EditEval's factors; `{instruction}` is replaced."""

_NAMES = {
    "accuracy": r"(?:s_?acc|(?:editing[\s_-]*)?accuracy)",
    "preservation": r"(?:s_?pre|(?:context(?:ual)?[\s_-]*)?preservation)",
    "quality": r"(?:s_?qua|(?:visual[\s_-]*)?quality)",
    "realism": r"(?:s_?real|(?:logical[\s_-]*)?realism)",
}
# A number that is not the start of a range ("0-10") and is out of 10 if it is out of anything.
_NUMBER = r"(?P<number>-?\d+(?:\.\d+)?)(?![\d.]*\d)(?!\s*(?:-|to)\s*\d)(?:\s*/\s*(?P<top>\d+))?"
_REFUSAL = re.compile(
    r"\bi(?:['\u2019]?m|\s+am)\s+(?:sorry|unable|not able)"
    r"|\bi\s+(?:can(?:no|['\u2019])t|won['\u2019]t)"
    r"|\b(?:cannot|can['\u2019]t|unable to)\s+(?:assist|help|comply|evaluate|judge|rate)",
    re.IGNORECASE,
)
# A reply of nothing but braces would otherwise be parsed once for each of them.
_MOST_BRACES = 32


class Verdict(NamedTuple):
    """Four factors, 0 to 10."""

    accuracy: float
    preservation: float
    quality: float
    realism: float

    @property
    def score(self) -> float:
        """EditEval's LMM Score, 0 to 10."""
        values = self._asdict()
        return round(sum(weight * values[name] for name, weight in WEIGHTS.items()), 6)


def read_verdict(reply: str) -> Verdict | None:
    """Reads the verdict that a reply states, as JSON or as `accuracy: 9 preservation: 8 ...`.

    Where a factor is named several times, the last counts: models think before they conclude.

    Returns:
        None where a factor is missing, not a number, or outside 0 to 10.
    """
    for values in json_objects(reply):
        if verdict := verdict_in(values):
            return verdict
    return _verdict({name: _from_words(reply, name) for name in WEIGHTS})


def verdict_in(values: dict[str, Any]) -> Verdict | None:
    """Reads the verdict in an object of JSON; returns None as `read_verdict` does."""
    return _verdict({name: _from_json(values, name) for name in WEIGHTS})


def is_refusal(reply: str) -> bool:
    """Tells whether a reply without a verdict declines to give one."""
    return _REFUSAL.search(reply) is not None


def _verdict(values: dict[str, float | None]) -> Verdict | None:
    kept = [value for value in values.values() if value is not None and 0 <= value <= MOST]
    return Verdict(*kept) if len(kept) == len(WEIGHTS) else None


def json_objects(reply: str, most: int = _MOST_BRACES) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a reply, the last first.

    Args:
        reply: reply in words.
        most: braces, from the end, at which an object is looked for.
    """
    decoder = json.JSONDecoder()
    starts = [match.start() for match in re.finditer(r"\{", reply)]
    for start in starts[: -most - 1 : -1]:
        try:
            value, _ = decoder.raw_decode(reply, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _from_json(values: dict[str, Any], name: str) -> float | None:
    for key, value in values.items():
        if not re.fullmatch(_NAMES[name], key.strip(), re.IGNORECASE):
            continue
        if isinstance(value, dict):
            return _from_json({name: value.get("score")}, name)
        if isinstance(value, str):
            return _number(re.fullmatch(_NUMBER, value.strip()))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _from_words(reply: str, name: str) -> float | None:
    pattern = (
        rf"(?<![a-z_]){_NAMES[name]}(?:\s*score)?[\s*_`]*(?:[:=|]|[-\u2013]\s)[\s*_`]*{_NUMBER}"
    )
    matches = list(re.finditer(pattern, reply, re.IGNORECASE))
    return _number(matches[-1]) if matches else None


def _number(match: re.Match[str] | None) -> float | None:
    if match is None or match["top"] not in (None, "10"):
        return None
    return float(match["number"])
