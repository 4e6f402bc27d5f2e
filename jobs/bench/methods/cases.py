"""Cases: recipes that edit drawn scenes, with and without a mask that is given."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from overpaint.operators.diffusion.auto import AUTO
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE, Method
from overpaint.operators.edit import Edit
from overpaint.pipeline.conditions import CONDITIONS, MASK
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.method_table import MaskUse, MeasuredRecipe, Training
from overpaint.pipeline.recipes.recipe import plan_from_tables

Tables = list[dict[str, Any]]
_EDITORS = ("invert", "fit", "edit", "truth")
_MEASURES = ("truth", "score", "judge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A recipe as it is measured.

    Attributes:
        recipe: name of the recipe.
        plan: its stages, those that measure included.
        mask: mask of its edits.
        tables: its stages as a recipe has them, without those that measure.
    """

    recipe: str
    plan: Plan
    mask: MaskUse
    tables: Tables

    @property
    def measured(self) -> MeasuredRecipe:
        """The recipe as a table of methods keeps it."""
        stages = [s for s in self.plan.stages if s.operator.kind not in ("score", "judge")]
        revisions = {stage.name: stage.operator.revisions() for stage in stages}
        return MeasuredRecipe(
            stages=self.tables, revisions={name: own for name, own in revisions.items() if own}
        )

    @property
    def edit(self) -> Edit:
        """The last edit of the recipe."""
        edits = [s.operator for s in self.plan.stages if isinstance(s.operator, Edit)]
        return edits[-1]

    @property
    def method(self) -> str:
        """The name of its editing method."""
        return AUTO if self.edit.choices else self.edit.method

    @property
    def training(self) -> Training:
        """The purpose that its editor was trained for."""
        draws = set(self.edit.own.checkpoints) <= set(TEXT_TO_IMAGE)
        return "pictures" if draws and not self.edit.choices else "edits"

    @property
    def edit_types(self) -> tuple[str, ...]:
        """The types of edits that it is for: those that its method declares, or all."""
        return EDIT_TYPES if self.edit.choices else self.edit.own.edit_types

    @property
    def conditions(self) -> tuple[str, ...]:
        """Columns of the input that its stages need beside words and masks."""
        wanted = {name for stage in self.plan.stages for name in stage.input_names}
        tables = {
            c.table_name for c in CONDITIONS.values() if {c.column.name, c.input.name} & wanted
        }
        return tuple(sorted(tables - {MASK.table_name}))


def shipped_recipes() -> dict[str, str]:
    """Returns the text of each recipe for drawn scenes that comes along, by name."""
    folder = files("overpaint.jobs") / "recipes" / "papercut"
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".toml")), key=str)
    return {entry.name.removesuffix(".toml"): entry.read_text() for entry in entries}


def chosen_recipes(names: Sequence[str]) -> dict[str, str]:
    """Returns the text of some recipes, by name; where none is named, of all but those by `auto`.

    Raises:
        UsageError: there is no such recipe.
    """
    recipes = shipped_recipes()
    for name in names:
        if name not in recipes:
            raise UsageError(f"no recipe {name!r} for drawn scenes: {near_miss(name, recipes)}")
    return {
        name: recipes[name] for name in names or recipes if names or not _is_auto(recipes[name])
    }


def find_cases(names: Sequence[str], checkpoint: str, batch_size: int | None = None) -> list[Case]:
    """Returns the cases of some recipes; where none is named, of all whose method is not `auto`.

    Args:
        names: recipes, which are named after what they measure.
        checkpoint: checkpoint of their editors; those whose method does not take it are left out.
        batch_size: rows in one call of their editors; None takes each recipe's.

    Raises:
        UsageError: there is no such recipe, or none of them takes the checkpoint.
    """
    chosen = chosen_recipes(names)
    own = {"checkpoint": checkpoint} | ({} if batch_size is None else {"batch_size": batch_size})
    cases = [case for name, text in chosen.items() for case in cases_of(name, text, own)]
    if not cases:
        raise UsageError(f"checkpoint {checkpoint!r}: no method that was asked for takes it")
    return cases


def _is_auto(text: str) -> bool:
    """Tells whether a recipe takes its methods from a table, which other cases are to fill."""
    return any(stage.get("method") == AUTO for stage in tomllib.loads(text)["stage"])


def cases_of(name: str, text: str, fields: Mapping[str, Any]) -> list[Case]:
    """Returns a recipe's cases; none where its methods do not take the checkpoint.

    A recipe that makes another picture of the source first, such as a larger one, has none: the
    truth is of the source.

    Args:
        name: name of the recipe.
        text: the recipe.
        fields: fields that its editors get, their checkpoint among them.
    """
    recipe = tomllib.loads(text)
    stages = [{**stage, **fields} if is_editor(stage) else stage for stage in recipe["stage"]]
    made: list[Case] = []
    for mask, given in _mask_uses(stages, name):
        plan = plan_from_tables({"name": name, "stage": _given_mask(stages, given)}, name)
        if _takes(plan) and not any(stage.operator.replaces for stage in plan.stages):
            tables = [stage for stage in stages if stage["operator"] not in _MEASURES]
            made.append(Case(recipe=name, plan=plan, mask=mask, tables=tables))
    return made


def _mask_uses(stages: Tables, name: str) -> list[tuple[MaskUse, bool]]:
    """Returns the masks that a recipe is measured with, and for each whether the row gives it."""
    if any(stage["operator"] == "mask" for stage in stages):
        return [("found", False)]
    plan = plan_from_tables({"name": name, "stage": stages}, name)
    if any(MASK.column.name in (*s.input_names, *s.output_names) for s in plan.stages):
        return [("given", False)]
    return [("none", False), ("given", True)]


def _given_mask(stages: Tables, given: bool) -> Tables:
    """Returns stages that read the row's mask where it is given: an implied fetch would not."""
    if not given:
        return stages
    from overpaint.operators.fetch import Fetch

    plan = plan_from_tables({"name": "x", "stage": stages}, "x")
    (fetch,) = (s.operator for s in plan.stages if isinstance(s.operator, Fetch))
    names = sorted({*fetch.conditions, MASK.name})
    group = {"group": stages[0]["group"]} if "group" in stages[0] else {}
    written = [stage for stage in stages if stage["operator"] == "fetch"]
    first = {"operator": "fetch", **group, **(written[0] if written else {}), "conditions": names}
    return [first, *(stage for stage in stages if stage not in written)]


def is_editor(stage: dict[str, Any]) -> bool:
    """Tells whether a stage runs the checkpoint that edits, or measures by its VAE."""
    from overpaint.operators.controls.latent_finder import LatentFinder
    from overpaint.operators.finders import FINDERS

    if stage["operator"] != "mask" or "method" not in stage:
        return stage["operator"] in _EDITORS
    return issubclass(FINDERS.find(stage["method"]), LatentFinder)


def _takes(plan: Plan) -> bool:
    """Tells whether the methods of a plan take its checkpoints."""
    for stage in plan.stages:
        settings = getattr(stage.operator, "settings", None)
        if isinstance(settings, Method):
            try:
                stage.operator.check()
            except ValueError:
                return False
    return True
