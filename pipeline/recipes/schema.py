"""The JSON Schema of recipes, for editors and other programs."""

from typing import Any

from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Budget, Limits, Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.named_policies import USE, named_policies
from overpaint.pipeline.stage import AUTO, Stage
from overpaint.pipeline.terms import TERMS
from overpaint.pipeline.variant import VariantOperator
from pydantic import TypeAdapter


def recipe_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a recipe over the operators that come with Overpaint."""
    stages = [schema for name in OPERATORS.names() for schema in _stage_schemas(name)]
    plan, limits = Plan.model_json_schema()["properties"], _schema(Limits)
    limits["properties"]["task_rows"] = plan["task_rows"]
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Overpaint recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "stage"],
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "terms": {"enum": list(TERMS)},
            "row": {"type": "object"},
            "stage": {"type": "array", "minItems": 1, "items": {"anyOf": stages}},
            "group": {"type": "object", "additionalProperties": _schema(Placement)},
            "policy": _policy_schema(),
            "budget": _schema(Budget),
            "limits": limits,
            "output": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"format": plan["image_format"], "images": plan["images"]},
            },
        },
    }
    definitions: dict[str, Any] = {}
    return {**_without_definitions(schema, definitions), "$defs": definitions}


def _without_definitions(value: Any, definitions: dict[str, Any]) -> Any:
    """Moves the definitions of nested schemas to one place: references start at the root."""
    if isinstance(value, list):
        return [_without_definitions(part, definitions) for part in value]
    if not isinstance(value, dict):
        return value
    parts: dict[str, Any] = dict(value)
    for name, definition in parts.pop("$defs", {}).items():
        definitions[name] = _without_definitions(definition, definitions)
    return {name: _without_definitions(part, definitions) for name, part in parts.items()}


def _schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema(mode="validation")


def _policy_schema() -> dict[str, Any]:
    """Returns the schema of a policy, which may start from a named one."""
    schema = _schema(Policy)
    schema["properties"] = {USE: {"enum": sorted(named_policies())}, **schema["properties"]}
    return schema


def _stage_schemas(name: str) -> list[dict[str, Any]]:
    """Returns one schema for an operator, or one for each of its variants."""
    kind = OPERATORS.find(name)
    shared = _schema(kind)
    if not issubclass(kind, VariantOperator):
        return [_stage_schema(name, shared)]
    shared["properties"].pop("settings")
    shared.pop("$defs", None)  # of `settings`, whose place the variant's own fields take
    schemas: list[dict[str, Any]] = []
    variants = {method: kind.variants.find(method) for method in kind.variants.names()}
    for method, variant in {**variants, **kind.expanding}.items():
        own = _schema(variant)
        summary = (variant.__doc__ or "").strip().split("\n", 1)[0]
        name_of = {"const": method, "description": summary}
        properties = {"method": name_of, **shared["properties"], **own["properties"]}
        required = [] if method == kind.default_method else ["method"]
        schema = {**shared, "title": f"{name}, {method}", "properties": properties}
        schemas.append(_stage_schema(name, {**schema, "required": required}))
    return schemas


def _stage_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    fields = Stage.model_json_schema()["properties"]
    properties = {
        "operator": {"const": name},
        "name": {"type": "string"},
        "group": {"type": "string"},
        **{key: fields[key] for key in ("reads", "writes", "prefix")},
        "placement": _schema(Placement),
        **schema.get("properties", {}),
    }
    if OPERATORS.find(name).kind not in ("fetch", "store"):
        properties["batch_size"] = _or_auto(properties["batch_size"])
    required = ["operator", *schema.get("required", [])]
    return {**schema, "properties": properties, "required": required}


def _or_auto(number: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a number that a probe may find."""
    described = {key: value for key, value in number.items() if key in ("description", "default")}
    bounds = {key: value for key, value in number.items() if key not in described}
    return {"anyOf": [bounds, {"const": AUTO}], **described}
