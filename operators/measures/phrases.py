"""The thing that an instruction changes, guessed: "make the red circle blue" - "red circle".

A handful of English patterns. An instruction that fits none of them, or that concerns the whole
picture, has no phrase: a wrong one would make a wrong mask.
"""

import re

_DETERMINERS = re.compile(
    r"(?:(?:the|a|an|this|that|these|those|both|all|of|its|my|their)(?:\s+|$))*"
)
_CHANGES = r"(?:change|turn|transform|convert|make|switch|alter)"
_COLOURS = r"(?:paint|dye|tint|colou?r|recolou?r)"
_FEATURES = r"(?P<feature>colou?r|texture|pattern|shape|style|material|size|pose|expression|view)"
_PLACES = r"(?:on|onto|to|in|into|inside|near|next to|beside|behind|under|above|over|at|for)"
_LOOKS = r"(?:look(?:s|ing)?|appear|seem|be|become)"
_NEW = r"(?:an?|some|one|two|three)"
_PATTERNS = tuple(
    re.compile(rf"(?:please\s+)?{pattern}")
    for pattern in (
        r"(?:remove|delete|erase|take away|get rid of|take out)\s+(?P<thing>.+?)(?:\s+from\s+.+)?",
        r"(?:replace|substitute|swap|exchange)\s+(?P<thing>.+?)\s+(?:with|by|for)\s+.+",
        rf"(?:change|alter|set)\s+the\s+{_FEATURES}\s+of\s+(?P<thing>.+?)\s+(?:in)?to\s+.+",
        rf"(?:change|alter)\s+(?P<thing>.+?)(?:'s)?\s+{_FEATURES}(?:\s+.+)?",
        rf"{_CHANGES}\s+(?P<thing>the\s+background)\s+.+",
        rf"{_CHANGES}\s+(?P<thing>.+?)\s+(?:into|to|from)\s+.+",
        rf"{_CHANGES}\s+(?P<thing>.+?)\s+{_LOOKS}\s+.+",
        rf"{_CHANGES}\s+(?P<thing>.+?)\s+an?\s+(?!bit|little).+",
        rf"{_CHANGES}\s+(?P<thing>.+?)\s+(?:much\s+|more\s+|a\s+(?:bit|little)\s+)?\S+",
        rf"{_COLOURS}\s+(?P<thing>.+?)\s+(?:(?:in|to)\s+)?\S+",
        r"give\s+(?P<thing>(?:the|this|that|my)\s+.+?)\s+(?:an?|some)\s+.+",
        r"(?:move|shift|push|drag)\s+(?P<thing>.+?)"
        r"(?:\s+(?:to|by|up|down|left|right|into|towards?)\b.*)?",
        rf"(?:put|place)\s+(?P<thing>the\s+.+?)\s+{_PLACES}\s+.+",
        r"(?:enlarge|shrink|grow|resize|rotate|flip|bend|open|close)\s+(?P<thing>.+?)"
        r"(?:\s+(?:to|by)\s+.+)?",
        r"(?:show|see|view)\s+(?P<thing>.+?)\s+(?:from\s+.+|\S+ing)",
        r"let\s+(?P<thing>.+)\s+\S+",
        rf"(?:add|put|place|insert|draw)\s+{_NEW}\s+.+?\s+{_PLACES}\s+"
        r"(?:the\s+(?:center|centre|middle|top|bottom|side)\s+of\s+)?(?P<thing>(?:the|this)\s+.+)",
    )
)
_WHOLE = re.compile(
    r"it|this|that|them|everything|(?:whole |entire )?(?:image|picture|photo|photograph|scene)"
    r"|(?:(?:top|bottom|upper|lower|left|right|centre|center|middle|corner|side)\s*)+"
)
_BEARERS = {"expression": "face", "pose": "person"}
"""Who has a feature that an instruction changes without naming its bearer."""


def changed_thing(instruction: str) -> str | None:
    """Returns the words that name the thing an instruction changes; None where none can be told.

    Args:
        instruction: an English sentence such as "replace the red circle with a star".
    """
    text = " ".join(instruction.lower().split()).rstrip(" .!")
    matches = (pattern.fullmatch(text) for pattern in _PATTERNS)
    match = next((match for match in matches if match), None)
    if match is None:
        return None
    thing = match["thing"][_end_of_determiners(match["thing"]) :].strip(" ,")
    if not thing:
        return _BEARERS.get(match.groupdict().get("feature") or "")
    return None if _WHOLE.fullmatch(thing) else thing


def _end_of_determiners(thing: str) -> int:
    match = _DETERMINERS.match(thing)
    return match.end() if match else 0
