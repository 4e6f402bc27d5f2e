"""Columns of rows that an export reads by name, and the words of an example."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.runs import FinishedRun
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import is_missing
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.rights import tells_rights

EDIT_TYPE = c.EDIT_TYPE.name
INVERSE = ("inverse_instruction", "inverse_prompt", "in_inverse_instruction", "in_inverse_prompt")
"""Columns with the instruction that leads back from the edited image, the first first."""
REFERENCES = ("in_references", "references")
REWRITTEN = ("edit_prompt", "proposed_instruction")
"""Columns with the words of a rewriter, beside those of the user."""

CHAIN = "in_chain_key"
"""Column with the key of the first row of a chain of turns."""
_TURN = {"turn": "in_turn", "parent_key": "in_parent_key", "chain_key": CHAIN}
"""Columns of an exported table that tell a chain of turns, with those of the manifest."""
_CARRIED = {
    "original_prompt": (c.SOURCE_PROMPT.name, c.CAPTION.name),
    "edited_prompt": (c.TARGET_PROMPT.name,),
    "rewritten_prompt": REWRITTEN,
    "method": (c.METHOD.name,),
    "checkpoint": (c.CHECKPOINT.name,),
    "revision": (c.REVISION.name,),
    "mask_source": (c.MASK_SOURCE.name,),
}
"""Text columns of an exported table, with those of the manifest that they are taken from."""


def caption_columns(request: ExportRequest) -> tuple[str, ...]:
    """Returns the columns that hold the words of an example: the first that has some counts."""
    return INVERSE if request.reverse else (request.caption, f"in_{request.caption}")


def check_caption(runs: Sequence[FinishedRun], request: ExportRequest) -> None:
    """Checks that each run has a column with the words of its examples.

    Raises:
        UsageError: names the run, and the columns that there should be.
    """
    wanted = caption_columns(request)
    for run in runs:
        if run.schema.names and not set(wanted) & set(run.schema.names):
            uri = run.folder.storage.uri
            if request.reverse:
                raise UsageError(
                    f"--reverse: {uri} has no column with the inverse instruction: "
                    f"give its input one, {INVERSE[0]} or {INVERSE[1]}"
                )
            texts = [f.name for f in run.schema if pa.types.is_string(f.type)]
            hint = near_miss(request.caption, texts)
            raise UsageError(f"--caption {request.caption!r}: {uri} has no such column: {hint}")


def text_of(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Returns the first text of a row in some columns, on one line; None where all are missing."""
    texts = (row.get(name) for name in names)
    found = next((text for text in texts if isinstance(text, str) and not is_missing(text)), None)
    return None if found is None else " ".join(found.split())


def rights_columns(runs: Sequence[FinishedRun]) -> list[str]:
    """Returns the columns of runs that say whose a picture is and what may be done with it."""
    names = dict.fromkeys(f.name for run in runs for f in run.schema)
    return [name for name in names if tells_rights(name)]


def carried_fields(runs: Sequence[FinishedRun]) -> list["pa.Field[Any]"]:
    """Returns the columns that tables carry beside an example's own: words, rights, scores."""
    texts = ["key", "edit_type", *_CARRIED, *rights_columns(runs)]
    scores = {name: run.schema.field(name).type for run in runs for name in run.scores}
    known = {name for run in runs for name in run.schema.names}
    turns = [name for name, own in _TURN.items() if own in known]
    return [
        *(pa.field(name, pa.string()) for name in texts),
        pa.field(c.SEED.name, pa.int64()),
        *(pa.field(name, pa.int64() if name == "turn" else pa.string()) for name in turns),
        *(pa.field(name, _number(kind)) for name, kind in scores.items() if name not in texts),
    ]


def _number(kind: pa.DataType) -> pa.DataType:
    return pa.float64() if pa.types.is_floating(kind) else pa.int64()


def carried(
    row: Mapping[str, Any], fields: Sequence["pa.Field[Any]"], *, reverse: bool
) -> dict[str, Any]:
    """Returns a row's values of the carried columns; prompts are swapped in reversed examples."""
    values: dict[str, Any] = {}
    for field in fields:
        value = row.get(_TURN.get(field.name, field.name))
        if field.name in _CARRIED:
            value = text_of(row, _CARRIED[field.name])
        elif pa.types.is_string(field.type):
            value = None if value is None else str(value)
        elif pa.types.is_floating(field.type):
            value = float(value) if value is not None and math.isfinite(value) else None
        values[field.name] = value
    if reverse:
        before, after = values["original_prompt"], values["edited_prompt"]
        values["original_prompt"], values["edited_prompt"] = after, before
    return values
