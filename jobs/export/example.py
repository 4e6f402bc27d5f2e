"""One example of an export: encoded pictures of equal size, words, and the row behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overpaint.jobs.export.pictures import Encoded


@dataclass(frozen=True, slots=True)
class Edit:
    """One edited image of an example.

    Attributes:
        key: key of its row.
        picture: encoded image; in a reversed example the source takes its place.
        rank: rank by which it was chosen; None where the row has none.
        checkpoint: weights that edited.
    """

    key: str
    picture: Encoded
    rank: float | None
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Example:
    """One example.

    Attributes:
        name: name of the example's files, made of keys: no dots.
        split: name of its split.
        caption: instruction that leads from `source` to `target`, on one line.
        edit_type: one of the survey's edit types; empty where the row has none.
        source: picture before the change.
        target: picture after it; None where requests alone are exported.
        loser: worse candidate of the same request; None but in preferences.
        mask: one-channel PNG of the pictures' size, white where the edit was allowed to change.
        references: further pictures that the edit was shown, of any size.
        cells: the row's values of the columns that tables carry.
    """

    name: str
    split: str
    caption: str
    edit_type: str
    source: Encoded
    target: Edit | None
    loser: Edit | None
    mask: bytes
    references: tuple[Encoded, ...]
    cells: Mapping[str, Any]

    @property
    def winner(self) -> Edit:
        """The target; there is one in pairs and preferences."""
        assert self.target is not None
        return self.target

    @property
    def truth(self) -> str:
        """The words for a right result: the target prompt, or the instruction without one."""
        return self.cells.get("edited_prompt") or self.caption
