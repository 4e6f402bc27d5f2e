"""Readings of edit instructions: prompts, object phrase, edit type and concepts.

A reading by rules begins with a `Request`; a reading by a model is JSON of one schema, and what is
not of that schema is no reading.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from overpaint.operators.measures import caption_edits, lexicon
from overpaint.operators.measures.instructions import Request
from overpaint.operators.measures.verdicts import is_refusal, json_objects
from overpaint.pipeline.edit_types import EDIT_TYPES
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Status = Literal[
    "ok",
    "partial",
    "unknown",
    "missing",
    "parse_error",
    "refused",
    "timeout",
    "unreachable",
    "busy",
    "bad_request",
    "over_budget",
]
"""End of a reading; all but `ok` have a note that says what is not known."""

PROMPT = """\
An image editor was given this instruction: "{instruction}"
The picture is described so: "{caption}"
Answer with one JSON object and nothing else, with exactly these keys:
{"edit_type": TYPE, "object_phrase": TEXT, "source_prompt": TEXT, "target_prompt": TEXT,
"reason": TEXT}
edit_type - one of {edit_types}
object_phrase - the words for the thing in the picture that the edit changes or removes; null where
it concerns the whole picture or adds something
source_prompt - a description of the picture before the edit
target_prompt - the same description after the edit, changed in as few words as possible
reason - null, or why a value above is null
Use null for what the instruction does not tell, and never guess."""
"""Question to a general model; the words in braces are replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Meaning of an instruction.

    Attributes:
        status: `ok`, or a word for why something is null.
        note: what is not known, in a few words; None where the status is `ok`.
        edit_type: one of EDIT_TYPES.
        mask_phrase: words for what changes in the source; None for the whole picture or an
            addition.
        source_prompt: description of the source.
        target_prompt: description of the edited picture.
        source_class: words that the edit takes away.
        target_class: words that the edit brings.
    """

    status: Status
    note: str | None = None
    edit_type: str | None = None
    mask_phrase: str | None = None
    source_prompt: str | None = None
    target_prompt: str | None = None
    source_class: str | None = None
    target_class: str | None = None


class _Told(BaseModel):
    """Reply of a model: all keys, no others."""

    model_config = ConfigDict(extra="forbid", strict=True)

    edit_type: str | None
    object_phrase: str | None = Field(max_length=200)
    source_prompt: str | None = Field(max_length=1000)
    target_prompt: str | None = Field(max_length=1000)
    reason: str | None = Field(max_length=1000)

    @field_validator("edit_type")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in EDIT_TYPES:
            raise ValueError(f"{value!r} is no edit type")
        return value


def read_reply(reply: str) -> Reading | None:
    """Reads the last JSON object of a model's reply; None where it is not of the schema."""
    for values in json_objects(reply):
        try:
            told = _Told.model_validate(values)
        except ValidationError:
            return None
        return _reading_of_told(told)
    return None


def refused_or_unread(reply: str) -> Reading:
    """Returns the reading of a reply that states none."""
    if is_refusal(reply):
        return Reading(status="refused", note="the model declined to answer")
    return Reading(status="parse_error", note=f"the model's answer is no reading: {reply[:200]!r}")


def _reading_of_told(told: _Told) -> Reading | None:
    texts = {name: _text(value) for name, value in told.model_dump().items()}
    is_whole = texts["edit_type"] is not None and texts["target_prompt"] is not None
    reason = texts.pop("reason")
    if not is_whole and reason is None:
        return None
    phrase = texts.pop("object_phrase")
    is_known = any(texts[name] for name in ("edit_type", "target_prompt")) or phrase is not None
    status: Status = "ok" if is_whole else "partial" if is_known else "unknown"
    note = None if is_whole else reason
    return Reading(status=status, note=note, mask_phrase=phrase, **texts)


def _text(value: str | None) -> str | None:
    text = " ".join((value or "").split())
    return text or None


def reading_of(request: Request, caption: str | None) -> Reading:
    """Returns the reading of a request, with prompts where they can be worded.

    Where there is a caption, the target prompt is the caption with the edit; without one, prompts
    are of the thing alone.

    Args:
        request: an instruction, taken apart.
        caption: what the source shows; None where nothing says.
    """
    if request.edit_type is None and request.thing is None and request.new is None:
        return Reading(status="unknown", note=request.note, source_prompt=caption)
    request = _with_subject(request, caption)
    source, target, note = _prompts(request, caption)
    notes = [text for text in (request.note, note) if text]
    old, new = _classes(request, caption)
    return Reading(
        status="partial" if notes else "ok",
        note="; ".join(notes) or None,
        edit_type=request.edit_type,
        mask_phrase=request.thing,
        source_prompt=source,
        target_prompt=target,
        source_class=old,
        target_class=new,
    )


def _with_subject(request: Request, caption: str | None) -> Request:
    """Gives a change of the viewpoint the caption's first thing where it names none."""
    if request.edit_type != "viewpoint" or request.thing is not None or caption is None:
        return request
    return replace(request, thing=caption_edits.main_thing(caption))


def _prompts(request: Request, caption: str | None) -> tuple[str | None, str | None, str | None]:
    """Returns source prompt, target prompt, and a note where there is no target prompt."""
    if request.edit_type is None:
        return caption, None, None
    if caption is not None:
        target = caption_edits.edited_caption(caption, request)
        note = None if target else f"the caption does not name {request.thing or 'the thing'!r}"
        return caption, target, note
    alone = _alone(request)
    target = caption_edits.edited_caption(alone, request) if alone else None
    return alone, target, None if target else "there is no caption to put the edit into"


def _alone(request: Request) -> str | None:
    """Returns a description of the thing alone."""
    if request.thing is None or request.edit_type in ("remove", "move"):
        return None
    return lexicon.with_article(request.thing)


def _classes(request: Request, caption: str | None) -> tuple[str | None, str | None]:
    """Returns the words that an edit takes away, and those that it brings."""
    kind, thing = request.edit_type, request.thing
    if kind in ("add", "style", "background") or thing is None:
        new = None if request.new is None else lexicon.without_determiners(request.new)
        return thing if kind == "background" else None, new
    if kind in ("remove", "move", "viewpoint") or request.new is None:
        return thing, None
    if kind == "replace" or kind is None:
        return thing, lexicon.without_determiners(request.new)
    named = caption_edits.named_thing(caption, thing) if caption else None
    new_thing = caption_edits.edited_caption(named or thing, replace(request, thing=thing))
    return named or thing, new_thing


def concepts(reading: Reading) -> list[dict[str, Any]] | None:
    """Returns an edit's concepts: the new words to add, and the old to take away; None for none.

    Args:
        reading: with `source_class` and `target_class`.
    """
    empty = dict.fromkeys(("guidance_scale", "threshold", "weight", "warmup", "cooldown"))
    pairs = ((reading.target_class, False), (reading.source_class, True))
    made = [{"prompt": text, "reverse": reverse, **empty} for text, reverse in pairs if text]
    return made or None
