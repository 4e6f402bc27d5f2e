"""Stages: an operator at a place in a plan, and the plan's names of the columns that it uses.

An operator names its columns itself. A stage can give them other names in its plan, so that two
judges write beside each other and an edit can start from what an earlier one has drawn:

    [[stage]]
    operator = "edit"                           # draws first
    writes = { edited_image = "draft_image" }   # the operator's name = the plan's name
    prefix = "draft_"                           # before every other column that it writes
    [[stage]]
    operator = "edit"                           # and then edits what was drawn
    name = "refine"
    reads = { source_image = "draft_image" }
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import near_miss
from overpaint.pipeline.operator import NewColumns, Operator
from pydantic import BaseModel, ConfigDict, SkipValidation, model_validator

AUTO = "auto"
"""Word of a recipe for a batch size that a probe finds."""
_FIXED_KINDS = ("fetch", "store")
"""Kinds of operators whose outputs keep their names: the files of a run rely on them."""


class Stage(BaseModel):
    """An operator in a plan.

    Example:
        >>> stage = Stage(operator=OPERATORS.find("caption")(), prefix="edited_",
        ...               reads={"source_image": "edited_image"})
        >>> stage.read_names, stage.output_names
        (('edited_image',), ('edited_caption',))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # pydantic takes Operator[Any] and Operator[None] for strangers; the validator below checks.
    operator: SkipValidation[Operator[Any]]
    """What is done."""
    name: str = ""
    """A word for people, unique in its plan; empty stands for the operator's name."""
    group: str = ""
    """Stages of one group share an actor; empty stands for a group of its own."""
    reads: dict[str, str] = {}
    """The plan's name of columns that the operator reads, by the operator's name."""
    writes: dict[str, str] = {}
    """The plan's name of columns that the operator writes, by the operator's name."""
    prefix: str = ""
    """Put before the names of the columns that the operator writes and `writes` does not name."""
    finds_batch_size: bool = False
    """Whether a probe finds the operator's batch size before a run is planned; a recipe writes
    `batch_size = "auto"`."""

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        operator = value.get("operator")
        if not isinstance(operator, Operator):
            raise ValueError(f"operator = {operator!r}: give an Operator")
        name = value.get("name") or OPERATORS.name_of(type(operator)).split(":")[-1]
        return {**value, "name": name, "group": value.get("group") or name}

    @model_validator(mode="after")
    def _renames_columns_of_its_operator(self) -> "Stage":
        operator = self.operator
        read = [column.name for column in (*operator.inputs, *operator.optional)]
        written = [column.name for column in operator.outputs]
        self._check_renamed("reads", self.reads, read)
        self._check_renamed("writes", self.writes, written)
        _check_name("prefix", self.prefix or "_")
        names = self.output_names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"stage {self.name!r} writes two columns as {name!r}")
        if operator.kind in _FIXED_KINDS and self.finds_batch_size:
            raise ValueError(f"stage {self.name!r}: {AUTO!r} is no batch size of {operator.kind}")
        if self.finds_batch_size and operator.choice_columns:
            raise ValueError(
                f"stage {self.name!r}: batch_size = {AUTO!r} is found for one operator, and rows "
                "choose among several: give a number"
            )
        if operator.kind in _FIXED_KINDS and (self.writes or self.prefix):
            raise ValueError(
                f"stage {self.name!r}: what {operator.kind} writes keeps its name: the files of a "
                "run rely on it"
            )
        return self

    def _check_renamed(self, key: str, names: Mapping[str, str], columns: Iterable[str]) -> None:
        for name, renamed in names.items():
            if name not in columns:
                raise ValueError(
                    f"stage {self.name!r}: its operator {key} no column {name!r}: "
                    f"{near_miss(name, columns)}"
                )
            _check_name(f"stage {self.name!r}: {key}.{name}", renamed)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that the stage needs, under the plan's names.

        An optional column that `reads` names is needed: a column of that name is expected.
        """
        optional = [column for column in self.operator.optional if column.name in self.reads]
        return tuple(self._as_read(column) for column in (*self.operator.inputs, *optional))

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns that the stage reads where the plan has them, under the plan's names."""
        return tuple(column for column in self.operator.optional if column.name not in self.reads)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that the stage adds, under the plan's names."""
        return tuple(
            replace(column, name=self.written_as(column.name)) for column in self.operator.outputs
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of `inputs`."""
        return tuple(column.name for column in self.inputs)

    @property
    def read_names(self) -> tuple[str, ...]:
        """The names of `inputs` and `optional`."""
        return tuple(column.name for column in (*self.inputs, *self.optional))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of `outputs`."""
        return tuple(column.name for column in self.outputs)

    def with_batch_size(self, batch_size: int) -> "Stage":
        """Returns the stage with a batch size that was found.

        Raises:
            ValueError: the operator refuses it.
        """
        operator = self.operator.with_batch_size(batch_size)
        return self.model_copy(update={"operator": operator, "finds_batch_size": False})

    def for_row(self, row: Row) -> "Stage":
        """Returns the stage with the operator that a row chooses, see `Operator.for_row`.

        Args:
            row: under the plan's names.
        """
        if not self.operator.choice_columns:
            return self
        return self.model_copy(update={"operator": self.operator.for_row(self.to_operator(row))})

    def is_needed(self, later: "Sequence[Stage]", row: Row) -> bool:
        """Tells whether a row needs the stage; one for another choice of a later stage it does not.

        Args:
            later: stages after this one.
            row: under the plan's names.
        """
        if any(column.scope != "group" for column in self.operator.outputs):
            return True
        written = set(self.output_names)
        return any(
            written & set(stage.for_row(row).read_names)
            and stage.is_needed(later[place + 1 :], row)
            for place, stage in enumerate(later)
        )

    def read_as(self, name: str) -> str:
        """Returns the plan's name of a column that the operator reads."""
        return self.reads.get(name, name)

    def written_as(self, name: str) -> str:
        """Returns the plan's name of a column that the operator writes."""
        return self.writes.get(name, f"{self.prefix}{name}")

    def to_operator(self, row: Row) -> dict[str, Any]:
        """Returns what the operator reads of a row, under its own names; None where it is absent.

        Args:
            row: under the plan's names.
        """
        columns = (*self.operator.inputs, *self.operator.optional)
        return {column.name: row.get(self.read_as(column.name)) for column in columns}

    def from_operator(self, columns: NewColumns) -> NewColumns:
        """Returns new columns of a row under the plan's names.

        Args:
            columns: under the operator's names.
        """
        if not self.writes and not self.prefix:
            return columns
        return {self.written_as(name): value for name, value in columns.items()}

    def _as_read(self, column: Column) -> Column:
        return replace(column, name=self.read_as(column.name))


def _check_name(where: str, name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"{where} = {name!r}: a name is letters, digits and underscores")
