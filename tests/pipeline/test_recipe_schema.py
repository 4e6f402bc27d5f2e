"""The JSON Schema of recipes."""

import tomllib

import jsonschema
import pytest
from overpaint.jobs.bench.methods.cases import shipped_recipes
from overpaint.jobs.recipes import shipped
from overpaint.operators.methods import METHODS
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.recipes.schema import recipe_schema

OWN_KEYS = ("operator", "method", "name", "group", "placement")


@pytest.fixture(scope="module")
def schema():
    found = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return found


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_fit_the_schema_as_written_and_resolved(name, schema):
    tables = tomllib.loads(shipped()[name])
    jsonschema.validate(tables, schema)
    resolved = recipe_of(plan_from_tables(tables, name))
    # Null stands for a field that is not given; TOML has none.
    stages = [{k: v for k, v in s.items() if v is not None} for s in resolved["stage"]]
    jsonschema.validate({**resolved, "stage": stages}, schema)


@pytest.mark.parametrize("name", ["auto", "auto_pictures"])
def test_recipes_that_let_a_table_choose_fit_the_schema(name, schema):
    jsonschema.validate(tomllib.loads(shipped_recipes()[name]), schema)


@pytest.mark.parametrize(
    "stage",
    [
        {"operator": "edit", "method": "auto", "strength": 0.5},
        {"operator": "edit", "method": "kontext", "strength": 0.5},
        {"operator": "edit", "method": "no_method"},
        {"operator": "edit", "method": "sdedit", "strength": 1.5},
        {"operator": "no_operator"},
        {"operator": "mask", "method": "clipseg", "sam_threshold": 0.5},
    ],
)
def test_wrong_stages_do_not_fit_the_schema(stage, schema):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "stage": [stage]}, schema)


def test_schema_describes_every_operator_method_and_field(schema):
    stages = schema["properties"]["stage"]["items"]["anyOf"]
    names = {stage["properties"]["operator"]["const"] for stage in stages}
    assert sorted(names) == OPERATORS.names()
    edits = [s["properties"] for s in stages if s["properties"]["operator"]["const"] == "edit"]
    assert sorted(edit["method"]["const"] for edit in edits) == sorted([*METHODS.names(), "auto"])
    assert all(stage["additionalProperties"] is False for stage in stages)
    undescribed = [
        f"{stage['properties']['operator']['const']}.{name}"
        for stage in stages
        for name, field in stage["properties"].items()
        if name not in OWN_KEYS and "description" not in field
    ]
    assert undescribed == []
