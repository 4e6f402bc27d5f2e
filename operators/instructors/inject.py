"""Captioning and Injection (arXiv 2306.02717): the target words go into the source's caption.

They take the place of the caption's nearest word by CLIP's text embeddings, or come after the
caption where none is near. The user gives words, such as "circle", and no prompts.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.measures import caption_edits, lexicon
from overpaint.operators.measures.instructions import read_instruction
from overpaint.operators.measures.readings import Reading
from overpaint.operators.models import clip
from overpaint.operators.models.instructor import BatchInstructor, Instruction
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import DtypeName
from pydantic import Field


class _Search(NamedTuple):
    """Target words, and the words of a caption that they may replace.

    Attributes:
        target: noun, noun phrase or adjective.
        candidates: words of the caption.
    """

    target: str
    candidates: tuple[str, ...]


class Inject(BatchInstructor):
    """Puts target words into the caption, for the word that CLIP finds nearest to them."""

    papers = ("2306.02717",)
    part: ClassVar[str] = clip.PART

    min_similarity: float = Field(default=0.0, ge=-1, le=1)
    """Least cosine of the text embeddings for which a word is replaced; else the target words
    come after the caption."""

    def load(self, dtype: DtypeName) -> Pretrained:
        """Loads the CLIP."""
        return clip.load(self.weights(dtype))

    def prepare(self, instruction: Instruction, model: Any) -> _Search:
        """Returns the target words: those of a command, or the whole instruction."""
        del model
        target = read_instruction(instruction.text).new or instruction.text.strip(" .!")
        return _Search(target, caption_words(instruction.caption or "", target))

    def infer(self, inputs: Sequence[Any], model: Any) -> Sequence[Any]:
        """Returns the cosine of each candidate and the target; each row is embedded alone."""
        return [_similarities(search, model) for search in inputs]

    def reading(self, instruction: Instruction, input: Any, output: Any) -> Reading:
        """Returns the caption with the target words in it."""
        caption = instruction.caption
        if caption is None:
            note = "there is no caption to put the words into"
            return Reading(status="partial", note=note, target_class=input.target)
        nearest = max(zip(output, input.candidates, strict=True), default=None)
        word = None if nearest is None or nearest[0] < self.min_similarity else nearest[1]
        kind = lexicon.kind_of(input.target) or "replace"
        target = lexicon.without_determiners(input.target)
        return Reading(
            status="ok" if word else "partial",
            note=None if word else "the caption has no word near the target: it comes at the end",
            edit_type=kind if word else "add",
            mask_phrase=word and (caption_edits.named_thing(caption, word) or word),
            source_prompt=caption,
            target_prompt=_injected(caption, target, word),
            source_class=word,
            target_class=target,
        )


def caption_words(caption: str, target: str) -> tuple[str, ...]:
    """Returns the words of a caption that target words may replace: its nouns, or adjectives alike.

    Args:
        caption: what the source shows.
        target: a noun or a noun phrase; or a word such as a colour, which replaces another.
    """
    kind = lexicon.kind_of(target)
    words = lexicon.words_of(caption)
    if kind is not None:
        return tuple(dict.fromkeys(word for word in words if lexicon.kind_of(word) == kind))
    ends = [*words[1:], "."]
    nouns = [w for w, after in zip(words, ends, strict=True) if after in lexicon.BOUNDARIES]
    skipped = lexicon.BOUNDARIES | lexicon.DETERMINERS | lexicon.SCENERY | lexicon.SIDES
    things = [noun for noun in nouns if noun not in skipped and lexicon.kind_of(noun) is None]
    return tuple(dict.fromkeys(noun for noun in things if len(noun) > 1))


def _similarities(search: _Search, model: Pretrained) -> list[float]:
    if not search.candidates:
        return []
    target, *others = clip.embed_texts(model, [search.target, *search.candidates])
    clip.check_finite([target, *others])
    return [clip.similarity(target, other) or 0.0 for other in others]


def _injected(caption: str, target: str, word: str | None) -> str:
    if word is None:
        return f"{caption}, {target}"
    return caption_edits.inject(caption, target, noun=word)
