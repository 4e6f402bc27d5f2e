"""Recipes: TOML to a plan, and a plan to JSON.

name = "recolor"
terms = "apache-2.0"        # of the editor's licence: see pipeline/terms.py
[row]                       # defaults for columns that the input lacks
instruction = "make the circle blue"
candidates = 2
[[stage]]
operator = "mask"           # every other key is a field of the operator
group = "gpu"               # stages of one group share an actor
batch_size = "auto"         # found by a probe before the run is planned, then the run's own
[[stage]]
operator = "edit"
group = "gpu"
[[stage]]
operator = "judge"
prefix = "judge_"           # columns under other names: see pipeline/stage.py
[group.gpu]                 # placement; a stage alone has [stage.placement]
num_gpus = 1                # or "auto": a share by the memory that the models need
accelerator_type = "L4"     # Ray's name of a kind of GPU
market_type = "spot"        # machines that are taken first, or "on-demand"
[policy]
background_psnr_db = { min = 25 }
[budget]
max_failed_share = 0.1
[output]
format = "png"
images = "shards"           # the pictures of a task in one tar; else each is an object
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.errors import UsageError, first_error, near_miss
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Budget, Limits, Plan
from overpaint.pipeline.policy import Best, Bounds, Policy
from overpaint.pipeline.recipes.named_policies import with_named_policy
from overpaint.pipeline.stage import AUTO, Stage
from pydantic import ValidationError

_TABLES = (
    *("name", "description", "terms", "row", "stage", "group"),
    *("policy", "budget", "limits", "output"),
)
_RENAMING = ("reads", "writes", "prefix")
STAGE_KEYS = ("operator", "name", "group", "placement", *_RENAMING)
"""Keys of a stage's table that are no fields of its operator."""
_ADDED = {"fetch", "store"}
"""Stages that a plan adds where they are not written out; settings can name them all the same."""
_POLICY_FIELDS = {*Bounds.model_fields, *Best.model_fields}
_PLAN_LIMITS = ("task_rows",)
"""Keys of `[limits]` that are fields of the plan."""
_OUTPUT = {"format": "image_format", "images": "images"}
"""Keys of `[output]`, and the fields of the plan that they are."""
_SET = ("row", "output")
"""Tables of which a setting can give a key."""


def read_toml(text: str, file: str) -> dict[str, Any]:
    """Reads the tables of a recipe.

    Raises:
        UsageError: not TOML; names the file, and the line as tomllib gives it.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: values are nested too deeply") from error


def apply_settings(tables: dict[str, Any], settings: Sequence[str], file: str) -> dict[str, Any]:
    """Returns the tables with `stage.field=value` settings applied; values are TOML, else text.

    `row` and `output` stand for those tables of the recipe.

    Raises:
        UsageError: a setting is not of that form, or names no stage.
    """
    names = {_stage_name(stage) for stage in _stages(tables, file)}
    added = [setting for setting in settings if setting.split(".", 1)[0] in _ADDED - names]
    tables = _applied(tables, [setting for setting in settings if setting not in added], file)
    return _applied(_written_out(tables, file), added, file) if added else tables


def _applied(tables: dict[str, Any], settings: Sequence[str], file: str) -> dict[str, Any]:
    stages = [dict(stage) for stage in _stages(tables, file)]
    by_name = {_stage_name(stage): stage for stage in stages}
    for setting in settings:
        match = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.*)", setting, re.DOTALL)
        if not match:
            raise UsageError(f"--set {setting!r}: write stage.field=value")
        name, field, value = match.groups()
        if name in by_name:
            by_name[name][field] = _value(value)
        elif name in _SET:
            tables = {**tables, name: {**_table(tables, name, file), field: _value(value)}}
        else:
            hint = near_miss(name, {*by_name, *_ADDED, *_SET})
            raise UsageError(f"{file}: --set {setting!r}: no stage {name!r}: {hint}")
    return {**tables, "stage": stages}


def _written_out(tables: dict[str, Any], file: str) -> dict[str, Any]:
    """Returns the tables with those of the stages that a plan adds where they are not there."""
    by_name = {_stage_name(stage): stage for stage in _expanded(tables, file)}
    resolved = recipe_of(plan_from_tables(tables, file))["stage"]
    return {**tables, "stage": [by_name.get(stage["name"], stage) for stage in resolved]}


def _stage_name(given: Mapping[str, Any]) -> str:
    return str(given.get("name") or str(given.get("operator")).split(":")[-1])


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def plan_from_tables(tables: Mapping[str, Any], file: str) -> Plan:
    """Returns the plan that a recipe describes.

    Raises:
        UsageError: one sentence with the file, the stage and the field, and the near miss.
    """
    _known(tables, _TABLES, file)
    tables_of_stages = _expanded(tables, file)
    stages = [_stage(given, f"{file}: stage {i + 1}") for i, given in enumerate(tables_of_stages)]
    groups = {
        name: _placement(given, f"{file}: group {name!r}")
        for name, given in _table(tables, "group", file).items()
    }
    for stage, given in zip(stages, tables_of_stages, strict=True):
        if "placement" in given:
            if "group" in given:
                raise UsageError(
                    f"{file}: stage {stage.name!r} is in group {stage.group!r}: its placement "
                    f"belongs in [group.{stage.group}]"
                )
            where = f"{file}: stage {stage.name!r}, placement"
            groups[stage.group] = _placement(given["placement"], where)
    return _plan(tables, stages, groups, file)


def _plan(
    tables: Mapping[str, Any], stages: list[Stage], groups: dict[str, Placement], file: str
) -> Plan:
    output, limits = _table(tables, "output", file), _table(tables, "limits", file)
    if "task_rows" in output:
        raise UsageError(f"{file}: [output] task_rows is in [limits] now")
    _known(output, _OUTPUT, f"{file}: [output]")
    own = {name: limits[name] for name in _PLAN_LIMITS if name in limits}
    others = {name: value for name, value in limits.items() if name not in own}
    try:
        return Plan(
            name=tables.get("name", "unnamed"),
            terms=tables.get("terms", ""),
            row=_table(tables, "row", file),
            stages=tuple(stages),
            groups=groups,
            policy=_policy(_table(tables, "policy", file), f"{file}: [policy]"),
            budget=_model(Budget, _table(tables, "budget", file), f"{file}: [budget]"),
            limits=_model(Limits, others, f"{file}: [limits]"),
            **{_OUTPUT[key]: value for key, value in output.items()},
            **own,
        )
    except ValidationError as error:
        raise UsageError(f"{file}: {first_error(error, Plan.model_fields)}") from error


def _stages(tables: Mapping[str, Any], file: str) -> list[dict[str, Any]]:
    stages: Any = tables.get("stage", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UsageError(f"{file}: stage is {stages!r}; write each stage as a table, [[stage]]")
    return stages


def _expanded(tables: Mapping[str, Any], file: str) -> list[dict[str, Any]]:
    """Returns the tables of all stages, those that a table stands for in its place."""
    stages: list[dict[str, Any]] = []
    for place, given in enumerate(_stages(tables, file)):
        name = given.get("operator")
        where = f"{file}: stage {place + 1}"
        try:
            kind = OPERATORS.find(name) if isinstance(name, str) else None
            stages += [given] if kind is None else kind.expanded(given)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    return stages


def _table(tables: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{file}: {name} is {table!r}; write a table, [{name}]")
    return table


def _known(table: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}: {near_miss(key, known)}")


def _stage(given: Mapping[str, Any], where: str) -> Stage:
    name = given.get("operator")
    if not isinstance(name, str):
        raise UsageError(f"{where}: operator is missing: {near_miss('', OPERATORS.names())}")
    try:
        kind = OPERATORS.find(name)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    label = f"{where} ({given.get('name', name)!r})"
    fields = {key: value for key, value in given.items() if key not in STAGE_KEYS}
    is_auto = fields.get("batch_size") == AUTO
    if is_auto:
        del fields["batch_size"]
    operator = _model(kind, fields, label)
    for key in ("name", "group"):
        if not isinstance(given.get(key, ""), str):
            raise UsageError(f"{label}: {key} = {given[key]!r}: write a text")
    keys = {key: given[key] for key in ("name", "group", *_RENAMING) if key in given}
    found = {"finds_batch_size": True} if is_auto else {}
    return _model(Stage, {"operator": operator, **keys, **found}, label)


def _placement(given: Any, where: str) -> Placement:
    return _model(Placement, given, where)


def _policy(given: Mapping[str, Any], where: str) -> Policy:
    try:
        rules = with_named_policy(given)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return _model(Policy, rules, where)


def _model(kind: Any, fields: Any, where: str) -> Any:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        known = _POLICY_FIELDS if kind is Policy else kind.model_fields
        renamed = getattr(kind, "renamed", None)
        raise UsageError(f"{where}: {first_error(error, known, renamed)}") from error


def recipe_of(plan: Plan) -> dict[str, Any]:
    """Returns a plan as JSON: every stage written out, every field with its value."""
    return {
        "name": plan.name,
        **({"terms": plan.terms} if plan.terms else {}),
        "row": plan.row,
        "stage": [
            {
                "operator": OPERATORS.name_of(type(stage.operator)),
                "name": stage.name,
                "group": stage.group,
                **stage.model_dump(include=set(_RENAMING), exclude_defaults=True),
                **stage.operator.model_dump(mode="json"),
                **({"batch_size": AUTO} if stage.finds_batch_size else {}),
            }
            for stage in plan.stages
        ],
        "group": {name: plan.placement(name).as_json() for name in plan.group_names},
        "policy": plan.policy.model_dump(mode="json", exclude_none=True),
        "budget": plan.budget.model_dump(mode="json"),
        "limits": {**plan.limits.model_dump(mode="json"), "task_rows": plan.task_rows},
        "output": {
            "format": plan.image_format,
            **({"images": plan.images} if plan.is_packed else {}),
        },
    }
