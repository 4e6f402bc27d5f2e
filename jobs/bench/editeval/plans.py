"""Plans of the benchmark: each editor's own stages, then one CLIP and one judge for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.jobs.bench.methods.cases import find_cases, is_editor
from overpaint.jobs.recipes import read_recipe
from overpaint.operators.models.weights import PAPERCUT
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.recipe import apply_settings, plan_from_tables, read_toml

Tables = Mapping[str, Any]
_KEPT = ("description", "row", "group", "limits", "output")
"""Tables of a recipe that a plan keeps; all that is edited is scored, so that none has a policy."""
_MEASURES = ("score", "judge")
_NOT_EDITING = (*_MEASURES, "truth")


@dataclass(frozen=True, kw_only=True, slots=True)
class Editors:
    """Editors that are compared.

    Attributes:
        methods: recipes for drawn scenes, which are named after their methods.
        recipes: files, or names of shipped recipes.
        checkpoint: checkpoint of all editors; None takes each recipe's, and papercut for methods.
        clip: checkpoint of the CLIP; None takes each recipe's, or papercut.
        judge: checkpoint of the judge; None takes each recipe's, or papercut.
        settings: `stage.field=value` changes of every recipe.
        num_gpus: GPUs of an actor of `methods`, whose recipes know none.
    """

    methods: Sequence[str] = ()
    recipes: Sequence[str] = ()
    checkpoint: str | None = None
    clip: str | None = None
    judge: str | None = None
    settings: Sequence[str] = ()
    num_gpus: float = 0.0


def plans_of(editors: Editors) -> dict[str, Plan]:
    """Returns a plan of each editor, by the name that tables have for it.

    Raises:
        UsageError: there is no such method or recipe, it needs what the benchmark does not have,
            two have one name, or their judges differ.
    """
    tables = [(name, _tables_of_method(name, editors)) for name in editors.methods]
    tables += [_tables_of_recipe(recipe, editors) for recipe in editors.recipes]
    if not tables:
        raise UsageError("--methods or --recipe: name at least one editor")
    plans: dict[str, Plan] = {}
    for name, own in tables:
        if name in plans:
            raise UsageError(f"two editors are named {name!r}: copy the recipe to another name")
        measured = apply_settings(_measured(own, editors), editors.settings, name)
        plans[name] = plan_from_tables({"name": name, **measured}, name)
    _check_one_judge(plans)
    return plans


def _tables_of_method(name: str, editors: Editors) -> dict[str, Any]:
    """Returns the stages of a method's recipe with the mask that it finds, or with none."""
    cases = find_cases([name], editors.checkpoint or PAPERCUT)
    case = next((case for case in cases if case.mask != "given"), cases[0])
    needed = (*(["a mask"] if case.mask == "given" else []), *case.conditions)
    if needed:
        raise UsageError(
            f"method {name!r} needs {' and '.join(needed)}, and EditEval has none: --recipe takes "
            "a recipe whose stages find what is needed"
        )
    names = {stage["group"] for stage in case.tables if "group" in stage}
    groups = {group: {"num_gpus": editors.num_gpus} for group in names} if editors.num_gpus else {}
    return {"stage": case.tables, "group": groups}


def _tables_of_recipe(recipe: str, editors: Editors) -> tuple[str, dict[str, Any]]:
    text, file = read_recipe(recipe)
    tables = read_toml(text, file)
    # The whole recipe is read once, so that its own mistakes are named as they are elsewhere.
    plan_from_tables(tables, file)
    own = {"checkpoint": editors.checkpoint} if editors.checkpoint is not None else {}
    stages = [{**stage, **own} if is_editor(stage) else stage for stage in tables["stage"]]
    kept = {name: tables[name] for name in _KEPT if name in tables}
    return Path(file).stem, {**kept, "stage": stages}


def _measured(tables: Tables, editors: Editors) -> dict[str, Any]:
    """Returns tables whose stages end with the CLIP's scores and the judge's."""
    stages: list[dict[str, Any]] = [dict(stage) for stage in tables["stage"]]
    editing = [stage for stage in stages if stage["operator"] not in _NOT_EDITING]
    given = {"score": editors.clip, "judge": editors.judge}
    measures = [_measure(name, given[name], stages, editing) for name in _MEASURES]
    used = {stage.get("group") for stage in (*editing, *measures)}
    groups = {name: own for name, own in tables.get("group", {}).items() if name in used}
    return {**tables, "stage": [*editing, *measures], "group": groups}


def _measure(
    operator: str,
    checkpoint: str | None,
    stages: list[dict[str, Any]],
    editing: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns the stage that measures: the recipe's own, or one beside its last editing stage."""
    own = next((stage for stage in stages if stage["operator"] == operator), None)
    if own is not None and checkpoint is None:
        return own
    place = own or editing[-1]
    where = {name: place[name] for name in ("group", "placement") if name in place}
    return {"operator": operator, **where, "checkpoint": checkpoint or PAPERCUT}


def _check_one_judge(plans: Mapping[str, Plan]) -> None:
    """Checks that all editors have one judge: its figures are its own."""
    judges = {
        name: next(s.operator for s in plan.stages if s.operator.kind == "judge")
        for name, plan in plans.items()
    }
    first, judge = next(iter(judges.items()))
    for name, other in judges.items():
        if other != judge:
            raise UsageError(
                f"{first!r} and {name!r} are judged by different judges, whose scores do not "
                "compare: --judge names one for all"
            )
