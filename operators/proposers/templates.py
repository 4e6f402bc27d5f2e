"""Instructions from templates by edit type and the things that a caption names; no model.

A wording is kept only where the rules of `instruct` read it back to the same type, and can put the
edit into the caption: so instruction, target prompt and mask phrase always agree.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from overpaint.operators.measures.draws import Draws
from overpaint.operators.measures.instructions import read_instruction
from overpaint.operators.measures.proposals import Proposal
from overpaint.operators.measures.readings import Reading, reading_of
from overpaint.operators.measures.wordings import WORDS, Filling, fill
from overpaint.operators.models.proposer import Proposer, Wish
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls
from pydantic import Field, field_validator

_DRAWS_A_TYPE = 4


class Templates(Proposer):
    """Fills templates with the caption's things and words of lists; reads the user's own words."""

    words: dict[str, list[str]] = Field(default={})
    """Lists that replace the own ones: things, colors, textures, backgrounds, styles, expressions,
    poses, places, views."""

    @field_validator("words")
    @classmethod
    def _are_lists(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, words in value.items():
            if name not in WORDS:
                raise ValueError(f"words has {name!r}: known: {', '.join(WORDS)}")
            if not words:
                raise ValueError(f"words.{name} is empty")
        return value

    def propose(
        self, wishes: Sequence[Wish], model: Any, calls: Calls
    ) -> Sequence[Proposal | RowError]:
        """Proposes an edit for each source."""
        del model
        return calls.beside(self._proposed, wishes)

    def _proposed(self, wish: Wish) -> Proposal:
        if wish.instruction is not None:
            return self._of_users(wish.instruction, wish.caption)
        if wish.caption is None:
            return Proposal(status="nothing", note="there is no caption to find things in")
        for filling in self._fillings(wish, wish.caption):
            if found := self._worded(filling, wish.caption, Draws(wish.seed)):
                return found
        return Proposal(status="nothing", note=f"no template fits {wish.caption!r}")

    def _fillings(self, wish: Wish, caption: str) -> Iterator[Filling]:
        words = {**WORDS, **{name: tuple(own) for name, own in self.words.items()}}
        for edit_type in wish.edit_types:
            for number in range(_DRAWS_A_TYPE):
                draws = Draws(wish.seed + number)
                if filling := fill(edit_type, caption, words, draws):
                    yield filling

    def _worded(self, filling: Filling, caption: str, draws: Draws) -> Proposal | None:
        """Returns the proposal in a wording that the rules read back; None where none is."""
        read = [(text, _read(text, filling.edit_type, caption)) for text in filling.wordings()]
        kept = [(text, reading) for text, reading in read if reading is not None]
        if not kept:
            return None
        (text, reading), *others = draws.shuffled("wording", kept)
        return Proposal(
            status="ok",
            edit_type=filling.edit_type,
            instruction=text,
            target_prompt=reading.target_prompt,
            mask_phrase=reading.mask_phrase,
            inverse_instruction=filling.inverse(),
            variants=tuple(other for other, _ in others[: self.num_variants]),
        )

    def _of_users(self, instruction: str, caption: str | None) -> Proposal:
        """Returns what goes with the user's own words."""
        reading = reading_of(read_instruction(instruction), caption)
        if reading.edit_type is None:
            return Proposal(status="nothing", note=reading.note)
        return Proposal(
            status="ok",
            edit_type=reading.edit_type,
            instruction=instruction,
            target_prompt=reading.target_prompt,
            mask_phrase=reading.mask_phrase,
        )


def _read(instruction: str, edit_type: str, caption: str) -> Reading | None:
    reading = reading_of(read_instruction(instruction), caption)
    is_same = reading.edit_type == edit_type and reading.status == "ok"
    return reading if is_same and reading.target_prompt not in (None, caption) else None
