"""Prompts that are longer than a text encoder sees: counted for each row, or refused."""

from collections.abc import Mapping
from typing import Literal

from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT
from pydantic import BaseModel, ConfigDict, Field

LongPrompt = Literal["cut", "fail"]
"""Fate of a prompt that is longer than its text encoder sees."""


class LimitsPrompts(BaseModel):
    """Field of an operator whose text encoder sees a limited number of tokens."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    long_prompt: LongPrompt = Field(default="cut", json_schema_extra=NOT_IN_FINGERPRINT)
    """Fate of a row with a prompt that is longer than the text encoder sees: `cut` edits it by the
    part that is seen, `fail` fails it before the model runs."""

    def tokens_cut(self, lengths: Mapping[str, TextLength | None]) -> int | None:
        """Returns the most tokens that are cut of any prompt; None where no length is known.

        Args:
            lengths: lengths of a row's prompts, by their names.

        Raises:
            RowError: `prompt_too_long`.
        """
        known = {name: length for name, length in lengths.items() if length is not None}
        if not known:
            return None
        name, longest = max(known.items(), key=lambda item: item[1].num_cut)
        if longest.num_cut and self.long_prompt == "fail":
            raise RowError(
                "prompt_too_long",
                f"{name} has {longest.num_tokens} tokens, and the text encoder sees "
                f"{longest.max_tokens}",
            )
        return longest.num_cut
