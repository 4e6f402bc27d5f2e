"""A row of `edit` that is ready for its model."""

from dataclasses import dataclass

from overpaint.operators.diffusion.method import Method
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.region import Region


@dataclass(frozen=True, kw_only=True, slots=True)
class EditInput:
    """A row that is ready for its model.

    Attributes:
        choice: name of the choice that the row makes; '' for the stage's own method.
        settings: method with the row's own values.
        request: the row as the method sees it.
        region: pixels that may change; None for all.
        tokens_cut: tokens of its prompts that the text encoder does not see; None where unknown.
    """

    choice: str
    settings: Method
    request: EditRequest
    region: Region | None
    tokens_cut: int | None
