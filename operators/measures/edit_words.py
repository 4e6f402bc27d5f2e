"""Words of an edit: what it takes away and what it brings, from columns or from its instruction."""

import re
from typing import NamedTuple

from overpaint.operators.measures import lexicon
from overpaint.operators.measures.instructions import read_instruction
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row, first_text

EDIT_WORDS = (c.EDIT_TYPE, c.INSTRUCTION, c.MASK_PHRASE, c.SOURCE_CLASS, c.TARGET_CLASS)
"""Columns that `words_of` reads where the plan has them."""

_QUOTED = re.compile(
    r"[\"\u201c\u201d]([^\"\u201c\u201d]+)[\"\u201c\u201d]|(?<!\w)['\u2018]([^'\u2019]+)['\u2019](?!\w)"
)


class EditWords(NamedTuple):
    """An edit in words.

    Attributes:
        edit_type: one of the survey's edit types; None where nothing tells.
        old: words for what changes or goes; None where nothing tells.
        new: words for what comes; None where nothing tells.
    """

    edit_type: str | None
    old: str | None
    new: str | None


def words_of(row: Row) -> EditWords:
    """Returns the words of a row's edit: its columns', and else those that its instruction has.

    Args:
        row: has the columns of `EDIT_WORDS`, null where they are unknown.
    """
    read = read_instruction(first_text(row, c.INSTRUCTION) or "")
    new = None if read.new is None else lexicon.without_determiners(read.new)
    return EditWords(
        first_text(row, c.EDIT_TYPE) or read.edit_type,
        first_text(row, c.SOURCE_CLASS, c.MASK_PHRASE) or read.thing,
        first_text(row, c.TARGET_CLASS) or new,
    )


def quoted(instruction: str) -> list[str]:
    """Returns the texts that an instruction quotes, in order.

    Example:
        >>> quoted('change "SALE" to "OPEN"')
        ['SALE', 'OPEN']
    """
    return [double or single for double, single in _QUOTED.findall(instruction)]
