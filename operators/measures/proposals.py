"""Proposals of edits: an instruction with what goes with it, as rules or a model write it.

A model's proposal is JSON of one schema, and what is not of that schema is no proposal.
"""

from dataclasses import dataclass
from typing import Literal

from overpaint.operators.measures.verdicts import is_refusal, json_objects
from overpaint.pipeline.edit_types import EDIT_TYPES
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Status = Literal[
    "ok",
    "nothing",
    "parse_error",
    "refused",
    "timeout",
    "unreachable",
    "busy",
    "bad_request",
    "over_budget",
]
"""End of a proposal; all but `ok` have a note that says why there is none."""

PROMPT = """\
You write instructions for an image editor. The picture is described so: "{caption}"
{task}
The edit must be possible in this picture, visible, and leave all else as it is. {style}
Answer with one JSON object and nothing else, with exactly these keys:
{"edit_type": TYPE, "instruction": TEXT, "target_prompt": TEXT, "mask_phrase": TEXT,
"inverse_instruction": TEXT, "rephrasings": [TEXT, TEXT]}
edit_type - one of {edit_types}
instruction - the instruction, one edit in one sentence
target_prompt - the description of the picture after the edit, changed in as few words as possible
mask_phrase - the words for the thing in the picture that changes; null for the whole picture or for
an addition
inverse_instruction - the instruction that takes the edit back; null where it cannot be told
rephrasings - the same instruction in {num_variants} other wordings; no other edit"""
"""Question to a general model; the words in braces are replaced."""
INVENT = "Write one instruction for an edit of the type {wished_type}."
REWRITE = (
    'Somebody asked for this edit: "{instruction}" Write the same edit as a clear instruction; add '
    "nothing that was not asked for."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Edit that is proposed.

    Attributes:
        status: `ok`, or a word for why there is none.
        note: why there is none, in a few words; None where the status is `ok`.
        edit_type: one of EDIT_TYPES.
        instruction: instruction.
        target_prompt: description of the edited picture.
        mask_phrase: words for what changes; None for the whole picture or an addition.
        inverse_instruction: instruction that takes the edit back; None where it cannot be told.
        variants: the instruction in other wordings.
    """

    status: Status
    note: str | None = None
    edit_type: str | None = None
    instruction: str | None = None
    target_prompt: str | None = None
    mask_phrase: str | None = None
    inverse_instruction: str | None = None
    variants: tuple[str, ...] = ()


class _Told(BaseModel):
    """Reply of a model: all keys, no others."""

    model_config = ConfigDict(extra="forbid", strict=True)

    edit_type: str
    instruction: str = Field(min_length=3, max_length=500)
    target_prompt: str = Field(min_length=3, max_length=1000)
    mask_phrase: str | None = Field(max_length=200)
    inverse_instruction: str | None = Field(max_length=500)
    rephrasings: list[str] = Field(max_length=20)

    @field_validator("edit_type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in EDIT_TYPES:
            raise ValueError(f"{value!r} is no edit type")
        return value


def read_proposal(reply: str, num_variants: int) -> Proposal | None:
    """Reads the last JSON object of a model's reply; None where it is not of the schema.

    Args:
        reply: reply of a model.
        num_variants: rephrasings that are kept at most.
    """
    for values in json_objects(reply):
        try:
            told = _Told.model_validate(values)
        except ValidationError:
            return None
        return _proposal(told, num_variants)
    return None


def unread(reply: str) -> Proposal:
    """Returns the proposal of a reply that states none."""
    if is_refusal(reply):
        return Proposal(status="refused", note="the model declined to answer")
    return Proposal(
        status="parse_error", note=f"the model's answer is no proposal: {reply[:200]!r}"
    )


def _proposal(told: _Told, num_variants: int) -> Proposal | None:
    instruction, target = _text(told.instruction), _text(told.target_prompt)
    if instruction is None or target is None:
        return None
    others = [text for text in map(_text, told.rephrasings) if text and text != instruction]
    return Proposal(
        status="ok",
        edit_type=told.edit_type,
        instruction=instruction,
        target_prompt=target,
        mask_phrase=_text(told.mask_phrase),
        inverse_instruction=_text(told.inverse_instruction),
        variants=tuple(dict.fromkeys(others))[:num_variants],
    )


def _text(value: str | None) -> str | None:
    return " ".join((value or "").split()) or None
