"""`method = "auto"`: each row takes the method that a table of methods finds best for it.

The stage becomes an edit with choices and routes, after the inversions and fits that they need;
a row runs through those of its own choice alone. The key of a row goes by the method that it takes
and that method's fields, not by the table: where rows choose as before, another table edits nothing
again, unless its methods ask for other pictures of the rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from overpaint.operators.diffusion.edit_choices import CHOOSING
from overpaint.operators.diffusion.method import Method
from overpaint.operators.diffusion.routing import MASKED
from overpaint.operators.models.weights import PAPERCUT
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.conditions import Condition
from overpaint.pipeline.errors import UsageError, first_error, near_miss
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.recipes.method_table import (
    Cell,
    MeasuredRecipe,
    MethodTable,
    read_method_table,
)
from overpaint.pipeline.recipes.recipe import STAGE_KEYS
from pydantic import BaseModel, ConfigDict, Field, ValidationError

AUTO = "auto"
_HELPERS = ("invert", "fit")
_PLACE = ("operator", "name", "group", "checkpoint", "revision", "batch_size", "num_threads")
Table = dict[str, Any]


class AutoFields(BaseModel):
    """Fields of a stage whose method is `auto`, beside those that all methods share."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    table: str = ""
    """File of the table that `bench methods --json` wrote for this checkpoint; empty takes the one
    that comes with papercut."""
    max_forward: float | None = Field(default=None, gt=0)
    """Most forward evaluations of a row, inversions and fits included; null sets no limit."""
    training: Literal["any", "pictures"] = "any"
    """`pictures` takes no editors that were trained to edit."""
    min_success: float = Field(default=0.0, ge=0, le=1)
    """Least success of a choice on training scenes."""


EXPANDING: Mapping[str, type[BaseModel]] = {AUTO: AutoFields}
"""Methods that stand for several stages, with the fields of their tables."""


def auto_stages(given: Mapping[str, Any]) -> list[Table]:
    """Returns the stages, as tables of a recipe, that a stage with `method = "auto"` stands for.

    Raises:
        UsageError: there is no table for the checkpoint, or it is of other weights.
    """
    own = {key: value for key, value in given.items() if key in AutoFields.model_fields}
    rest = {key: value for key, value in given.items() if key not in {*own, "method"}}
    _check_known(rest)
    try:
        fields = AutoFields.model_validate(own)
    except ValidationError as error:
        raise UsageError(f"method 'auto': {first_error(error, AutoFields.model_fields)}") from error
    checkpoint = str(given.get("checkpoint", PAPERCUT))
    table = _table_of(checkpoint, fields.table)
    selection = _select(table, fields)
    _check_weights(selection, checkpoint)
    group = {"group": given.get("group") or given.get("name") or "edit"}
    shared = {key: rest[key] for key in _PLACE[3:] if key in rest}
    helpers = [{**helper, **group, **shared} for helper in selection.helpers.values()]
    edit = {
        **rest,
        **group,
        "choices": {name: _choice(recipe) for name, recipe in selection.recipes.items()},
        "routes": selection.routes,
        "default_choice": selection.default_choice,
        "routes_from": table.digest,
    }
    return [*helpers, edit]


def _check_known(fields: Mapping[str, Any]) -> None:
    """Checks that all fields are of the stage, of every edit, or of `auto`."""
    shared = OPERATORS.find("edit").model_fields.keys() - {*CHOOSING, "settings"}
    known = {*shared, *AutoFields.model_fields, *STAGE_KEYS}
    for name in fields:
        if name not in known:
            raise UsageError(f"method 'auto': unknown field {name!r}: {near_miss(name, known)}")


@dataclass(slots=True)
class _Selection:
    """Recipes that rows may take, which do not stand in each other's way.

    Attributes:
        recipes: by name, in order of acceptance.
        helpers: stages that they need before the edit, by the columns that those write.
        routes: names of recipes by the key of a route, the preferred first.
        default_choice: recipe of rows whose type has no route.
    """

    recipes: dict[str, MeasuredRecipe] = field(default_factory=dict[str, MeasuredRecipe])
    helpers: dict[tuple[str, ...], Table] = field(default_factory=dict[tuple[str, ...], Table])
    routes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    default_choice: str = ""

    def accepts(self, name: str, recipe: MeasuredRecipe) -> bool:
        """Tells whether a recipe can stand beside those that are accepted; it then is."""
        if name in self.recipes:
            return True
        helpers = dict(_helpers(recipe))
        written = {column for columns in self.helpers for column in columns}
        for columns, helper in helpers.items():
            if self.helpers.get(columns, helper) != helper:
                return False
            if columns not in self.helpers and written & set(columns):
                return False
        if any(stage["operator"] not in (*_HELPERS, "fetch") for stage in recipe.stages[:-1]):
            return False
        self.helpers |= helpers
        self.recipes[name] = recipe
        return True


def _select(table: MethodTable, fields: AutoFields) -> _Selection:
    """Takes for each type the best recipes, the surest of all types first."""
    ranked = {key: cells for key, cells in _ranked(table, fields).items() if cells}
    if not ranked:
        raise UsageError("method 'auto': the table has no cell of training scenes that is allowed")
    selection = _Selection()
    for key in sorted(ranked, key=lambda key: (-ranked[key][0].success, key)):
        names: list[str] = []
        for cell in ranked[key]:
            if selection.accepts(cell.recipe, table.recipes[cell.recipe]):
                names.append(cell.recipe)
                if not _conditions(table.recipes[cell.recipe]):
                    break
        if names:
            selection.routes[key] = names
    free = [n for n, recipe in selection.recipes.items() if not _conditions(recipe)]
    plain = [cell for cells in ranked.values() for cell in cells if cell.recipe in free]
    if not plain:
        raise UsageError("method 'auto': every allowed recipe of the table needs conditions")
    selection.default_choice = max(free, key=lambda name: _total_success(plain, name))
    return selection


def _ranked(table: MethodTable, fields: AutoFields) -> dict[str, list[Cell]]:
    """Returns the allowed cells by the key of a route, the best first."""
    ranked: dict[str, list[Cell]] = {}
    for edit_type in sorted({cell.edit_type for cell in table.cells}):
        for cell in table.best(edit_type, max_forward=fields.max_forward):
            is_allowed = fields.training == "any" or cell.training == fields.training
            if not is_allowed or cell.mask == "found" or cell.success < fields.min_success:
                continue
            if cell.method == AUTO:
                continue
            key = f"{edit_type}{MASKED}" if cell.mask == "given" else edit_type
            ranked.setdefault(key, []).append(cell)
    return ranked


def _total_success(cells: list[Cell], recipe: str) -> float:
    """Returns the success of a recipe over all types, for rows of which no type is known."""
    return sum(cell.success for cell in cells if cell.recipe == recipe)


def _helpers(recipe: MeasuredRecipe) -> Iterator[tuple[tuple[str, ...], Table]]:
    """Yields the stages before a recipe's edit, with the columns that each writes."""
    for stage in recipe.stages[:-1]:
        if stage["operator"] not in _HELPERS:
            continue
        fields = {key: value for key, value in stage.items() if key not in _PLACE}
        operator: Operator[Any] = OPERATORS.find(stage["operator"]).model_validate(fields)
        method = stage.get("method")
        name = f"{stage['operator']}_{method}" if method else stage["operator"]
        columns = tuple(column.name for column in operator.outputs)
        yield columns, {"operator": stage["operator"], "name": name, **fields}


def _choice(recipe: MeasuredRecipe) -> Table:
    return {key: value for key, value in recipe.stages[-1].items() if key not in _PLACE}


def _method(recipe: MeasuredRecipe) -> Method:
    edit: Any = OPERATORS.find("edit").model_validate(_choice(recipe))
    method: Method = edit.own
    return method


def _conditions(recipe: MeasuredRecipe) -> list[Condition]:
    return [need for need in _method(recipe).needs if isinstance(need, Condition)]


def _table_of(checkpoint: str, table: str) -> MethodTable:
    if not table and checkpoint != PAPERCUT:
        raise UsageError(
            f"method 'auto' has no table for {checkpoint!r}: make one with `overpaint bench "
            f"methods --checkpoint {checkpoint} --split train --json FILE`, and name it as `table`"
        )
    shipped = Path(str(files("overpaint.operators.models"))) / PAPERCUT / "methods.json"
    read = read_method_table(Path(table) if table else shipped)
    if read.checkpoint != checkpoint:
        raise UsageError(
            f"{table}: a table of {read.checkpoint!r}, and the stage is of {checkpoint!r}"
        )
    return read


def _check_weights(selection: _Selection, checkpoint: str) -> None:
    """Checks that the chosen recipes were measured on the weights that are there now."""
    for name, recipe in selection.recipes.items():
        fields = {**_choice(recipe), "checkpoint": checkpoint}
        now = OPERATORS.find("edit").model_validate(fields).revisions()
        if dict(recipe.revisions.get("edit", {})) != now:
            raise UsageError(
                f"method 'auto': the table measured {name!r} on other weights of {checkpoint!r}: "
                "measure them with `overpaint bench methods --split train --json FILE`"
            )
