"""Readings of papercut's instructions beside what is true: edit type, object phrase, prompt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overpaint.jobs.papercut.dataset import SEEDS_PER_DATASET
from overpaint.jobs.papercut.edits import DrawnEdit, sample_edit
from overpaint.jobs.papercut.scene import Split
from overpaint.operators.instruct import INSTRUCT_STATUS, Instruct
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType

HOW = """\
Every phrasing of papercut's edits of the test split, read by `instruct` with the source's caption.
edit_type: share whose edit type is right. object_phrase: share whose phrase names the item that
changes: its noun, and of its adjectives no wrong one; none where the edit is of the whole picture
or adds something. both: share with both. exact_phrase and target_prompt: shares equal to papercut's
own words, which for some types say more than the instruction does."""


def measure_instruct(
    num_edits: int, seed: int = 0, split: Split = "test", operator: Instruct | None = None
) -> list[dict[str, Any]]:
    """Measures the readings of each edit type, and of all.

    Args:
        num_edits: edits of each type.
        seed: seed of a dataset; another one gives other edits.
        split: split whose instructions are read.
        operator: reads them; None takes the rules.

    Returns:
        Shares of right readings, a row for each type and one for all.
    """
    reader = operator or Instruct.model_validate({})
    model = reader.load()
    judged: list[dict[str, Any]] = []
    for edit_type in EDIT_TYPES:
        for edit in _edits(edit_type, num_edits, seed, split):
            rows = [
                {"instruction": text, "in_source_prompt": edit.source_prompt}
                for text in edit.phrasings
            ]
            answers: Any = reader.run(rows, model)
            judged += [_judged(edit, answer) for answer in answers]
    groups = {kind: [row for row in judged if row["type"] == kind] for kind in EDIT_TYPES}
    return [_shares(kind, rows) for kind, rows in (*groups.items(), ("all", judged))]


def names_item(phrase: str | None, true: str) -> bool:
    """Tells whether a phrase names the item of a true phrase: its noun, and no wrong adjective.

    Args:
        phrase: as read; None for none.
        true: papercut's phrase, such as "red star"; empty for the whole picture.

    Example:
        >>> names_item("star", "red star"), names_item("blue star", "red star")
        (True, False)
    """
    if not phrase or not true:
        return not phrase and not true
    words, wanted = phrase.split(), true.split()
    same_noun = words[-1] == wanted[-1]
    return same_noun and (set(words) <= set(wanted) or set(wanted) <= set(words))


def _edits(kind: EditType, num_edits: int, seed: int, split: Split) -> Iterator[DrawnEdit]:
    for number in range(num_edits):
        yield sample_edit(seed * SEEDS_PER_DATASET + number, kind, split)


def _judged(edit: DrawnEdit, answer: Mapping[str, Any]) -> dict[str, Any]:
    is_type = answer["edit_type"] == edit.edit_type
    is_item = names_item(answer["mask_phrase"], edit.mask_phrase)
    return {
        "type": edit.edit_type,
        "edit_type": is_type,
        "object_phrase": is_item,
        "both": is_type and is_item,
        "exact_phrase": (answer["mask_phrase"] or "") == edit.mask_phrase,
        "target_prompt": answer["target_prompt"] == edit.target_prompt,
        "ok": answer[INSTRUCT_STATUS.name] == "ok",
    }


def _shares(kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in rows[0] if name != "type"]
    shares = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    return {"type": kind, "instructions": len(rows), **shares}
