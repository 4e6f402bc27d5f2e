"""Conditions of drawn edits: what can steer an edit beside its words, known from the scenes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType
from PIL import Image

Value = Image.Image | tuple[Image.Image, ...] | list[Any] | str | None
"""Value of a column before it is written.

A picture, or a tuple of pictures, becomes files and their URIs; anything else is JSON as it is.
"""


class DrawnCondition(ABC):
    """Condition of drawn edits: columns of a dataset that steer an edit beside its words.

    One module of `overpaint.jobs.papercut.conditions` holds one, and is its name. Where
    `overpaint run` reads such a column, the column has that name, type and meaning, see
    `overpaint.pipeline.conditions`.

    Attributes:
        columns: names of its columns, all of which every row has; those of pictures end with
            `_uri` or `_uris`, or are a list in `references`.
        edit_types: edit types that have values; the columns of the others are null.
    """

    columns: ClassVar[tuple[str, ...]]
    edit_types: ClassVar[tuple[EditType, ...]] = EDIT_TYPES

    @abstractmethod
    def values(self, edit: DrawnEdit, rng: PortableRandom) -> Mapping[str, Value]:
        """Returns the values of an edit, by column; a column that is left out is null.

        Args:
            edit: edit of one of `edit_types`.
            rng: choices of this condition alone, equal for equal seeds.
        """

    def row(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the value of every column, null where the edit's type has none."""
        columns: dict[str, Value] = dict.fromkeys(self.columns)
        if edit.edit_type in self.edit_types:
            columns.update(self.values(edit, rng))
        return columns
