"""A plan: checked, ordered stages, where each runs, and what is accepted.

`Plan(...)` in Python and a recipe in TOML are the same object. A plan always begins by fetching the
source and stores each edited image right after it is made: both stages are added where they are not
written out.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from overpaint.pipeline import columns as c
from overpaint.pipeline import plan_checks
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.conditions import MASK, PICTURES
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.identity import digest, operator_fingerprint, plan_fingerprint
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.terms import TERMS
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ROW_CONTROLS = ("candidates", "edits")
"""Keys of `row` that multiply rows rather than give a column."""


class Budget(BaseModel):
    """Share of failed rows above which a run stops early."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_failed_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Stops once more than this share of the rows that ended has failed."""
    min_rows: int = Field(default=1000, ge=1)
    """How many rows must have ended before the share counts."""

    def is_exceeded(self, ended: int, failed: int) -> bool:
        """Tells whether a run with these counts should stop."""
        return ended >= self.min_rows and failed > self.max_failed_share * ended


class Limits(BaseModel):
    """Bounds on a row, beyond which it fails alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Times that a row may crash its worker (a segfault, out of memory, a hang)."""
    row_timeout_s: float = Field(default=1800.0, gt=0)
    """Longest time that a row may take in one group of stages, in seconds."""
    allow_inexact: bool = False
    """Whether a stage whose GPU ran out of memory may go on in ways that can change the last digit
    of its answers, such as smaller batches; what keeps every byte is done in any case."""


class Plan(BaseModel):
    """Everything that a run does to a row.

    Example:
        >>> from overpaint.operators.edit import Edit
        >>> plan = Plan(name="redraw", stages=(Stage(operator=Edit(method="sdedit")),))
        >>> [stage.name for stage in plan.stages]
        ['fetch', 'edit', 'store']
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """A word for people; not part of any identity."""
    terms: str = ""
    """Terms of the editor's licence, a word of `pipeline.terms`; empty where they are not told."""
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
    images: Literal["objects", "shards"] = "objects"
    """How a run keeps pictures: each as an object of its own, or those of a task in one WebDataset
    tar, which takes a store far fewer requests."""
    task_rows: int = Field(default=32, ge=1, le=4096)
    """Rows in one task: what a killed actor may have to do again."""

    @model_validator(mode="before")
    @classmethod
    def _add_implied_stages(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("stages"):
            return {**value, "stages": _with_implied(value["stages"])}
        return value

    @field_validator("terms")
    @classmethod
    def _terms_are_known(cls, terms: str) -> str:
        if terms and terms not in TERMS:
            raise ValueError(near_miss(terms, TERMS))
        return terms

    @model_validator(mode="after")
    def _hangs_together(self) -> "Plan":
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        plan_checks.check_row(self.row)
        plan_checks.check_names(self.stages)
        plan_checks.check_groups(self.stages, self.groups)
        plan_checks.check_columns(self.stages)
        plan_checks.check_fetched(self.stages)
        plan_checks.check_candidates(self.row, self.stages)
        plan_checks.check_policy(self.policy, self.stages)
        return self

    @property
    def is_packed(self) -> bool:
        """True where the pictures of a task are packed into shards."""
        return self.images == "shards"

    @property
    def runner_outputs(self) -> tuple[c.Column, ...]:
        """The columns of the manifest that the runner writes at the end of a task."""
        return (c.STORED_SPANS,) if self.is_packed else ()

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups, in order."""
        return tuple(dict.fromkeys(stage.group for stage in self.stages))

    def stages_of(self, group: str) -> tuple[Stage, ...]:
        """Returns the stages that share one actor."""
        return tuple(stage for stage in self.stages if stage.group == group)

    def placement(self, group: str) -> Placement:
        """Returns the resources of a group."""
        return self.groups.get(group, Placement())

    def editing_stages(self) -> tuple[Stage, ...]:
        """Returns the stages that decide the pixels: all edits, and all that they read from."""
        edits = [stage for stage in self.stages if stage.operator.kind == "edit"]
        wanted: set[str] = set()
        editing: list[Stage] = []
        for stage in reversed(self.stages):
            if stage in (edits or self.stages) or wanted & set(stage.output_names):
                wanted |= set(stage.read_names)
                editing.append(stage)
        return tuple(reversed(editing))

    def unrepeatable(self) -> tuple[str, ...]:
        """Returns the names of the stages that need not make the same pixels again."""
        stages = self.editing_stages()
        return tuple(stage.name for stage in stages if not stage.operator.reproducible)

    def key_columns(self) -> tuple[str, ...]:
        """Returns the columns of the input that decide the pixels, beside `source_uri`."""
        stages = self.editing_stages()
        written = {name for stage in stages for name in stage.output_names}
        read = [column for stage in stages for column in (*stage.inputs, *stage.optional)]
        kept = {column.name for column in read if column.scope == "manifest"}
        return tuple(sorted(kept - written - c.RUNNER_COLUMNS))

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprint of each stage, by its name; the names of its columns count."""
        return {stage.name: _stage_fingerprint(stage) for stage in self.stages}

    def fingerprint(self) -> str:
        """Returns the fingerprint of all that decides the pixels of a row.

        It covers the stages that make the pixels, and what each of them reads from which; the names
        of the columns between them do not count, nor do those of scores.
        """
        stores = [stage for stage in self.stages if stage.operator.kind == "store"]
        fingerprints = _linked_fingerprints(self.editing_stages(), stores)
        return plan_fingerprint(fingerprints, self.image_format)

    def stored_images(self) -> dict[str, str]:
        """Returns the column of each image that is stored, with the column of its URI."""
        store = next((stage for stage in self.stages if stage.operator.kind == "store"), None)
        if store is None:
            return {}
        read = {column.name for column in (*store.operator.inputs, *store.operator.optional)}
        written = set(store.output_names)
        is_drawn = c.DRAWN_URI in self.stored_columns()
        drawn = {c.SOURCE_IMAGE.name: c.DRAWN_URI.name} if is_drawn else {}
        return drawn | {
            store.read_as(image): uri
            for image, uri in c.STORED_IMAGES.items()
            if image in read and uri in written
        }

    def stored_columns(self) -> tuple[c.Column, ...]:
        """Returns the stages' own columns that the manifest keeps, after the fixed ones."""
        fixed = {column.name for column in c.MANIFEST}
        written = (column for stage in self.stages for column in stage.outputs)
        own = (o for o in written if o.scope == "manifest" and o.name not in fixed)
        return (*own, *self.runner_outputs)

    def planned_column_names(self, names: Sequence[str]) -> dict[str, str]:
        """Returns the plan's name of each column of the input beside `source_uri` and `seed`.

        Columns that a stage reads, and those an input may give by the manifest's names, keep
        theirs. Every other becomes `in_<name>`, and so does one that a stage or planning writes.

        Args:
            names: the columns of the input table; those of `row` are added.
        """
        used = {name for stage in self.stages for name in stage.read_names}
        used |= {column.name for column in c.INPUT}
        taken = {name for stage in self.stages for name in stage.output_names} | c.RUNNER_COLUMNS
        taken |= {column.name for column in c.MANIFEST} - {column.name for column in c.INPUT}
        edits = [name for edit in self.row.get("edits", []) for name in edit]
        defaults = [name for name in self.row if name not in ROW_CONTROLS]
        planned = {
            name: name if name in used - taken else f"in_{name}"
            for name in dict.fromkeys([*names, *defaults, *edits])
            if name not in ("source_uri", "seed")
        }
        plan_checks.check_planned_names(planned)
        return planned

    def input_column_names(self) -> frozenset[str]:
        """Returns the names of all columns that a stage reads of an input that has them."""
        columns = [column for stage in self.stages for column in (*stage.inputs, *stage.optional)]
        written = {name for stage in self.stages for name in stage.output_names}
        return frozenset(
            column.name.removeprefix("in_")
            for column in columns
            if column.scope == "manifest" and column.name not in written | c.RUNNER_COLUMNS
        )

    def check_input(self, names: Iterable[str]) -> None:
        """Checks that every column that a stage needs is in the input or written before it.

        Raises:
            UsageError: naming the stage, the column and a way to give it.
        """
        given = list(names)
        columns = c.RUNNER_COLUMNS | set(self.planned_column_names(given).values())
        plan_checks.check_condition_columns(self.stages, columns, given)
        for stage in self.stages:
            for column in stage.inputs:
                if column.name not in columns:
                    raise UsageError(
                        f"stage {stage.name!r} reads column {column.name.removeprefix('in_')!r}, "
                        "which neither the input nor an earlier stage gives: "
                        f"{plan_checks.way_to_give(column, given)}"
                    )
            columns |= set(stage.output_names)

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


def _stage_fingerprint(stage: Stage) -> str:
    fingerprint = operator_fingerprint(stage.operator)
    columns = (*stage.operator.inputs, *stage.operator.optional)
    read = {o.name: stage.read_as(o.name) for o in columns}
    # A prefix shows in the other columns; a count of cut tokens has a name of its own by `writes`.
    names = [o.name for o in stage.operator.outputs if not c.tells_tokens_cut(o)]
    written = {name: stage.written_as(name) for name in (*names, *stage.writes)}
    renamed = [{a: b for a, b in names.items() if a != b} for names in (read, written)]
    return digest([fingerprint, *renamed]) if any(renamed) else fingerprint


class _Links:
    """Sources of the columns that stages read: an earlier editing stage, or the input.

    Args:
        editing: the stages that decide the pixels.
    """

    def __init__(self, editing: Sequence[Stage]) -> None:
        self._sources: dict[str, list[int | str]] = {
            stage.written_as(column.name): [place, column.name]
            for place, stage in enumerate(editing)
            for column in stage.operator.outputs
        }

    def unusual(self, stage: Stage) -> dict[str, Any]:
        """Returns the sources that the names of the operators' columns alone do not tell."""
        columns = (*stage.operator.inputs, *stage.operator.optional)
        names = {column.name: stage.read_as(column.name) for column in columns}
        sources = {column: self._sources.get(name, name) for column, name in names.items()}
        return {
            column: source for column, source in sources.items() if source != self._usual(column)
        }

    def _usual(self, column: str) -> list[int | str] | str | None:
        """Returns the one stage that writes a column, or the input; None where several write it."""
        sources = [source for source in self._sources.values() if source[1] == column]
        return column if not sources else sources[0] if len(sources) == 1 else None


def _linked_fingerprints(editing: Sequence[Stage], stores: Sequence[Stage]) -> list[str]:
    """Returns the fingerprints of the stages that decide the pixels, with what they read."""
    links = _Links(editing)
    fingerprints: list[str] = []
    for stage in editing:
        unusual = links.unusual(stage)
        fingerprint = operator_fingerprint(stage.operator)
        fingerprints.append(digest([fingerprint, unusual]) if unusual else fingerprint)
    for stage in stores:
        if unusual := {k: v for k, v in links.unusual(stage).items() if k in c.STORED_IMAGES}:
            fingerprints.append(digest(unusual))
    return fingerprints


def _with_implied(entries: Sequence[Any]) -> list[Stage]:
    stages = [
        entry if isinstance(entry, Stage) else Stage.model_validate(entry) for entry in entries
    ]
    stages = list(_with_replaced(stages))
    kinds = [stage.operator.kind for stage in stages]
    if "fetch" not in kinds:
        fetch = OPERATORS.find("fetch")(**_conditions_to_fetch(stages))
        stages.insert(0, Stage(operator=fetch, group=stages[0].group))
    if "store" not in kinds and "edit" in kinds:
        last = max(index for index, stage in enumerate(stages) if stage.operator.kind == "edit")
        stages.insert(last + 1, _store_after(stages[last]))
    return stages


def _with_replaced(stages: Iterable[Stage]) -> Iterator[Stage]:
    """Yields stages that read what earlier ones have put in the place of other columns."""
    replaced: dict[str, str] = {}
    for stage in stages:
        operator = stage.operator
        known = {column.name for column in (*operator.inputs, *operator.optional)}
        implied = {name: column for name, column in replaced.items() if name in known}
        new = {name: stage.written_as(column) for name, column in operator.replaces.items()}
        replaced |= new
        if implied:
            stage = stage.model_copy(update={"reads": {**implied, **stage.reads}})
        yield stage


def _store_after(edit: Stage) -> Stage:
    """Returns a stage that stores the result of an edit, under the names that it has there."""
    store = OPERATORS.find("store")()
    names = {o.name: edit.read_as(o.name) for o in (*edit.operator.inputs, *edit.operator.optional)}
    names |= {o.name: edit.written_as(o.name) for o in edit.operator.outputs}
    names |= {name: edit.written_as(own) for name, own in edit.operator.replaces.items()}
    reads = {image: names[image] for image in c.STORED_IMAGES if names.get(image, image) != image}
    return Stage(operator=store, group=edit.group, reads=reads)


def _conditions_to_fetch(stages: Sequence[Stage]) -> dict[str, Any]:
    """Returns the fields of an implied fetch: the pictures that stages read and none writes.

    A mask that is only used where there is one is not read, as it would limit an edit unasked,
    unless rows choose their methods by it.
    """
    written = {name for stage in stages for name in stage.output_names}
    needed = {name for stage in stages for name in stage.input_names} - written
    used = {name for stage in stages for name in stage.read_names} - written - needed
    chosen_by = {column.name for stage in stages for column in stage.operator.choice_columns}
    used -= set() if MASK.input.name in chosen_by else {MASK.column.name}
    conditions = {
        field: tuple(name for name, picture in PICTURES.items() if picture.column.name in columns)
        for field, columns in (("conditions", needed), ("optional_conditions", used))
    }
    # Where rows choose their methods, only some may need a mask: each asks for its own.
    is_needed = MASK.name in conditions["conditions"]
    return {**conditions, "require_mask": False} if is_needed else conditions
