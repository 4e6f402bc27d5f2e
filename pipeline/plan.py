"""A plan: checked, ordered stages, where each runs, and what is accepted.

`Plan(...)` in Python and a recipe in TOML are the same object. A plan always begins by fetching the
source and stores each edited image right after it is made: both stages are added where they are not
written out.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.conditions import MASK, PICTURES
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.identity import operator_fingerprint, plan_fingerprint
from overpaint.pipeline.operator import Operator, Placement
from overpaint.pipeline.policy import Policy
from pydantic import BaseModel, ConfigDict, Field, SkipValidation, model_validator

GIVEN = {column.name for column in (c.BASE_URI, c.RUN_URI, c.IMAGE_FORMAT)} | {
    column.name for column in (c.KEY, c.SOURCE_URI, c.GROUP_ID, c.CANDIDATE, c.SEED)
}
"""Columns that planning and the runner give to every row."""


ROW_CONTROLS = ("candidates", "edits")
"""Keys of `row` that multiply rows rather than give a column."""

_MAX_CANDIDATES = 10_000


class Stage(BaseModel):
    """An operator in a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # pydantic takes Operator[Any] and Operator[None] for strangers; the validator below checks.
    operator: SkipValidation[Operator[Any]]
    name: str = ""
    group: str = ""

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

    @property
    def written(self) -> tuple[str, ...]:
        """The names of the columns it adds."""
        return tuple(column.name for column in self.operator.outputs)

    @property
    def needed(self) -> tuple[str, ...]:
        """The names of the columns it cannot do without."""
        return tuple(column.name for column in self.operator.inputs)

    @property
    def read(self) -> tuple[str, ...]:
        """The names of the columns it reads where they are there."""
        return (*self.needed, *(column.name for column in self.operator.optional))


class Budget(BaseModel):
    """How many rows may fail before a run stops early."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_failed_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Stops once more than this share of the rows that ended has failed."""
    min_rows: int = Field(default=1000, ge=1)
    """How many rows must have ended before the share counts."""

    def is_exceeded(self, ended: int, failed: int) -> bool:
        """Whether a run with these counts should stop."""
        return ended >= self.min_rows and failed > self.max_failed_share * ended


class Limits(BaseModel):
    """What a row may cost before it fails alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_attempts: int = Field(default=3, ge=1, le=100)
    """How often a row may end its worker (a segfault, out of memory, a hang)."""
    row_timeout_s: float = Field(default=1800.0, gt=0)
    """How long a row may take in one group of stages, in seconds."""
    allow_inexact: bool = False
    """Whether a stage whose GPU ran out of memory may go on in ways that can change the last digit
    of its answers, such as smaller batches; what keeps every byte is done in any case."""


class Plan(BaseModel):
    """What a run does to every row."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """A word for people; not part of any identity."""
    stages: tuple[Stage, ...]
    """In the order in which they run."""
    row: dict[str, Any] = {}
    """Defaults for columns that the input lacks; `candidates` and `edits` multiply rows."""
    groups: dict[str, Placement] = {}
    """Where each group of stages runs."""
    policy: Policy = Policy()
    """What is accepted."""
    budget: Budget = Budget()
    """When to stop early."""
    limits: Limits = Limits()
    """What a row may cost."""
    image_format: Literal["png", "jpg", "webp"] = "png"
    """How edited images are stored."""
    task_rows: int = Field(default=32, ge=1, le=4096)
    """Rows in one task: what a killed actor may have to do again."""

    @model_validator(mode="before")
    @classmethod
    def _add_implied_stages(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("stages"):
            return {**value, "stages": _with_implied(value["stages"])}
        return value

    @model_validator(mode="after")
    def _hangs_together(self) -> "Plan":
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        _check_row(self.row)
        _check_names(self.stages)
        _check_groups(self.stages, self.groups)
        _check_columns(self.stages)
        _check_fetched(self.stages)
        _check_candidates(self.row, self.stages)
        _check_policy(self.policy, self.stages)
        return self

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups, in order."""
        return tuple(dict.fromkeys(stage.group for stage in self.stages))

    def stages_of(self, group: str) -> tuple[Stage, ...]:
        """The stages that share one actor."""
        return tuple(stage for stage in self.stages if stage.group == group)

    def placement(self, group: str) -> Placement:
        """Where a group runs."""
        return self.groups.get(group, Placement())

    def editing_stages(self) -> tuple[Stage, ...]:
        """The stages that decide the pixels: the edit, and all that it reads from."""
        edits = [stage for stage in self.stages if stage.operator.kind == "edit"]
        wanted = {name for stage in edits or self.stages for name in (*stage.read, *stage.written)}
        found: list[Stage] = []
        for stage in reversed(self.stages):
            if wanted & set(stage.written):
                wanted |= set(stage.read)
                found.append(stage)
        return tuple(reversed(found))

    def key_columns(self) -> tuple[str, ...]:
        """The columns of the input that decide the pixels, beside `source_uri`."""
        stages = self.editing_stages()
        written = {name for stage in stages for name in stage.written}
        operators = [stage.operator for stage in stages]
        read = [column for o in operators for column in (*o.inputs, *o.optional)]
        given = {column.name for column in read if column.scope == "manifest"}
        return tuple(sorted(given - written - GIVEN))

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stage by its name."""
        return {stage.name: operator_fingerprint(stage.operator) for stage in self.stages}

    def fingerprint(self) -> str:
        """Of the stages that decide the pixels."""
        made = [operator_fingerprint(stage.operator) for stage in self.editing_stages()]
        return plan_fingerprint(made, self.image_format)

    def stored_columns(self) -> tuple[c.Column, ...]:
        """The operators' own columns that the manifest keeps, after the fixed ones."""
        fixed = {column.name for column in c.MANIFEST}
        written = (column for stage in self.stages for column in stage.operator.outputs)
        return tuple(o for o in written if o.scope == "manifest" and o.name not in fixed)

    def given_names(self, names: Sequence[str]) -> dict[str, str]:
        """The plan's name of each column that the user gives, beside `source_uri` and `seed`.

        Columns that a stage reads, and those an input may give by the manifest's names, keep
        theirs. Every other becomes `in_<name>`, and so does one that a stage or planning writes.

        Args:
            names: the columns of the input table; those of `row` are added.
        """
        used = {name for stage in self.stages for name in stage.read}
        used |= {column.name for column in c.INPUT}
        taken = {name for stage in self.stages for name in stage.written} | GIVEN
        taken |= {column.name for column in c.MANIFEST} - {column.name for column in c.INPUT}
        edits = [name for edit in self.row.get("edits", []) for name in edit]
        defaults = [name for name in self.row if name not in ROW_CONTROLS]
        return {
            name: name if name in used - taken else f"in_{name}"
            for name in dict.fromkeys([*names, *defaults, *edits])
            if name not in ("source_uri", "seed")
        }

    def check_input(self, names: Iterable[str]) -> None:
        """Checks that every column that a stage needs is in the input or written before it.

        Raises:
            UsageError: naming the stage, the column and the nearest one there is.
        """
        known = GIVEN | set(self.given_names(list(names)).values())
        _check_condition_columns(self.stages, known)
        for stage in self.stages:
            for name in stage.needed:
                if name not in known:
                    hint = near_miss(name, {other.removeprefix("in_") for other in known} - {name})
                    raise UsageError(
                        f"stage {stage.name!r} reads column {name!r}, which neither the input nor "
                        f"an earlier stage gives: {hint}"
                    )
            known |= set(stage.written)

    def check_models(self) -> None:
        """Asks every operator whether what it will load is there.

        Raises:
            UsageError: naming the stage.
        """
        for stage in self.stages:
            try:
                stage.operator.check()
            except ValueError as error:
                raise UsageError(f"stage {stage.name!r}: {error}") from error


def _with_implied(given: Sequence[Any]) -> list[Stage]:
    stages = [stage if isinstance(stage, Stage) else Stage.model_validate(stage) for stage in given]
    kinds = [stage.operator.kind for stage in stages]
    if "fetch" not in kinds:
        fetch = OPERATORS.find("fetch")(**_conditions_to_fetch(stages))
        stages.insert(0, Stage(operator=fetch, group=stages[0].group))
    if "store" not in kinds and "edit" in kinds:
        edits = [index for index, stage in enumerate(stages) if stage.operator.kind == "edit"]
        store = Stage(operator=OPERATORS.find("store")(), group=stages[edits[-1]].group)
        stages.insert(edits[-1] + 1, store)
    return stages


def _conditions_to_fetch(stages: Sequence[Stage]) -> dict[str, Any]:
    """Returns the fields of an implied fetch: the pictures that stages read and none writes.

    A mask that is only used where there is one is not read: it would limit an edit unasked.
    """
    written = {name for stage in stages for name in stage.written}
    needed = {name for stage in stages for name in stage.needed} - written
    used = {name for stage in stages for name in stage.read} - written - needed
    used -= {MASK.column.name}
    return {
        field: tuple(name for name, picture in PICTURES.items() if picture.column.name in columns)
        for field, columns in (("conditions", needed), ("optional_conditions", used))
    }


def _check_fetched(stages: Sequence[Stage]) -> None:
    written = {name for stage in stages for name in stage.written}
    for stage in stages:
        for picture in PICTURES.values():
            if picture.column.name in set(stage.needed) - written:
                raise ValueError(
                    f"stage {stage.name!r} reads {picture.column.name!r}, which no stage writes: "
                    f'add "{picture.name}" to `conditions` of the stage that fetches'
                )


def _check_condition_columns(stages: Sequence[Stage], known: set[str]) -> None:
    """Checks that the input has the pictures that stages need, and names such a stage."""
    fetched = {name for stage in stages for name in stage.needed}
    for stage in stages:
        for picture in PICTURES.values():
            is_needed = picture.column.name in stage.needed and picture.input.name in fetched
            if is_needed and picture.input.name not in known:
                names = {name.removeprefix("in_") for name in known}
                raise UsageError(
                    f"stage {stage.name!r} reads {picture.column.name!r}: give the input a column "
                    f"{picture.table_name!r}, or the plan an earlier stage that writes it: "
                    f"{near_miss(picture.table_name, names)}"
                )


def _check_row(row: dict[str, Any]) -> None:
    candidates: Any = row.get("candidates", 1)
    is_number = isinstance(candidates, int) and not isinstance(candidates, bool)
    if not is_number or not 1 <= candidates <= _MAX_CANDIDATES:
        raise ValueError(
            f"row.candidates = {candidates!r}: a whole number from 1 to {_MAX_CANDIDATES}"
        )
    edits: Any = row.get("edits", [{}])
    if not isinstance(edits, list) or not edits or not all(isinstance(e, dict) for e in edits):
        raise ValueError(f"row.edits = {edits!r}: a list of tables of columns, at least one")
    for name, value in row.items():
        if not _is_plain(value):
            raise ValueError(f"row.{name} = {value!r}: write texts, numbers, true or false")


def _is_plain(value: Any) -> bool:
    """Whether JSON holds a value as it is: TOML also has dates, infinities and NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _check_names(stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two stages are named {name!r}: give one of them another name")


def _check_groups(stages: Sequence[Stage], groups: dict[str, Placement]) -> None:
    order = [stage.group for stage in stages]
    starts = [order[0], *(b for a, b in pairwise(order) if a != b)]
    for group in starts:
        if starts.count(group) > 1:
            raise ValueError(f"group {group!r} is split: the stages of a group stand together")
    for group in groups:
        if group not in starts:
            raise ValueError(f"no stage is in group {group!r}: {near_miss(group, starts)}")


def _check_columns(stages: Sequence[Stage]) -> None:
    writers: dict[str, Stage] = {}
    local: dict[str, str] = {}
    for stage in stages:
        for name in stage.read:
            if local.get(name, stage.group) != stage.group:
                raise ValueError(
                    f"stage {stage.name!r} reads {name!r}, which never leaves the actor that made "
                    f"it: put it into group {local[name]!r}"
                )
        for column in stage.operator.outputs:
            if column.name in GIVEN:
                raise ValueError(f"stage {stage.name!r} writes {column.name!r}, which is given")
            if column.name in writers:
                raise ValueError(
                    f"stages {writers[column.name].name!r} and {stage.name!r} both write column "
                    f"{column.name!r}"
                )
            writers[column.name] = stage
            if column.scope == "group":
                local[column.name] = stage.group


def _check_candidates(row: dict[str, Any], stages: Sequence[Stage]) -> None:
    candidates = row.get("candidates", 1)
    if candidates > 1 and not any(c.SEED.name in stage.read for stage in stages):
        raise ValueError(
            f"row.candidates = {candidates}: no stage draws from the seed, as method 'ddim' draws "
            "from none, so that all of them would be equal"
        )


def _check_policy(policy: Policy, stages: Sequence[Stage]) -> None:
    written = [column for stage in stages for column in stage.operator.outputs]
    scores = [column.name for column in written if pa.types.is_floating(column.type)]
    for name in policy.root:
        if name not in scores:
            raise ValueError(
                f"policy: no stage writes the score {name!r}: {near_miss(name, scores)}"
            )
