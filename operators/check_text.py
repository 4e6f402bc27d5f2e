"""`check_text`: whether the words that an edit was to write are there, and the old ones gone.

Any image-to-text checkpoint of transformers reads both pictures (TrOCR, GOT-OCR 2.0 and the like).
The words are those that the instruction quotes: change "SALE" to "OPEN". Two quoted texts are the
old and the new one; a single one is new, or old where the edit removes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from overpaint.operators.measures.edit_words import EDIT_WORDS, quoted, words_of
from overpaint.operators.measures.pair import PAIR
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from PIL import Image
from pydantic import Field

TEXT_BEFORE = Column("text_before", pa.string(), "text that is read in the source")
TEXT_AFTER = Column("text_after", pa.string(), "text that is read in the edited image")
TEXT_CHECK = score("text_check", "1 where the new words are there and the old ones gone, else 0")


class _Pages(NamedTuple):
    """Pictures of a row.

    Attributes:
        source: the source.
        edited: the edit.
    """

    source: Image.Image
    edited: Image.Image


class CheckText(UsesCheckpoint[Pretrained], ModelOperator[Pretrained, _Pages, tuple[str, str]]):
    """Reads the text of both pictures, and checks it by the words that the instruction quotes.

    Words are compared without case, spaces and punctuation. `text_check` is 1 or 0; it is null
    where the instruction quotes nothing, and where the old words cannot be read in the source.
    """

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = "caption"

    checkpoint: str = Field(default=...)
    """Weights: a local folder or a hub id of a model that reads text, such as
    microsoft/trocr-base-printed."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    """Longest text, in tokens."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def optional(self) -> tuple[Column, ...]:
        """The words of the edit."""
        return EDIT_WORDS

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The texts, and the check."""
        return (TEXT_BEFORE, TEXT_AFTER, TEXT_CHECK)

    def load(self) -> Pretrained:
        """Loads the reader."""
        from transformers import AutoModelForImageTextToText

        return Pretrained.load(AutoModelForImageTextToText, self.weights)

    def prepare(self, row: Row, model: Pretrained) -> _Pages:
        """Returns both pictures."""
        del model
        return _Pages(*(decode(row[column.name]).small_image() for column in PAIR))

    def infer(self, inputs: Sequence[_Pages], model: Pretrained) -> list[tuple[str, str]]:
        """Reads each picture in a call of its own: sizes, and so tokens, differ."""
        return [
            (self._read(pages.source, model), self._read(pages.edited, model)) for pages in inputs
        ]

    def _read(self, image: Image.Image, model: Pretrained) -> str:
        import torch

        tokens: Any = model.processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            generated = model.model.generate(
                **tokens.to(model.model.device, model.model.dtype),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
        num_given = tokens["input_ids"].shape[1] if "input_ids" in tokens else 0
        if getattr(model.model.config, "is_encoder_decoder", False):
            num_given = 0
        (text,) = model.processor.batch_decode(generated[:, num_given:], skip_special_tokens=True)
        return " ".join(text.split())

    def answer(
        self, row: Row, pages: _Pages, texts: tuple[str, str], model: Pretrained
    ) -> NewColumns:
        """Returns the texts, and whether they are as asked."""
        del pages, model
        before, after = texts
        return {
            TEXT_BEFORE.name: before,
            TEXT_AFTER.name: after,
            TEXT_CHECK.name: text_check(row, before, after),
        }


def text_check(row: Row, before: str, after: str) -> float | None:
    """Returns 1 where texts are as the instruction asks, 0 where they are not.

    Args:
        row: has the columns of `EDIT_WORDS`.
        before: text of the source.
        after: text of the edit.

    Returns:
        None where nothing can be told.
    """
    named = [_letters(text) for text in quoted(row.get("instruction") or "")]
    if not named:
        return None
    is_removal = words_of(row).edit_type == "remove"
    old = named[0] if len(named) > 1 or is_removal else None
    new = None if is_removal and len(named) == 1 else named[-1]
    if old is not None and old not in _letters(before):
        return None
    is_gone = old is None or old == new or old not in _letters(after)
    return float(is_gone and (new is None or new in _letters(after)))


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
