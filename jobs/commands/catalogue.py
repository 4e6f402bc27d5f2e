"""recipes, operators: the commands that list what comes with Overpaint."""

import json

from cyclopts import App
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import Flag
from overpaint.jobs.recipes import description, read_recipe, shipped
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.recipes.schema import recipe_schema
from overpaint.pipeline.variant import VariantOperator
from rich.table import Table


def register(app: App) -> None:
    """Adds these commands to the app."""
    app.command(recipes)
    app.command(operators)


def recipes(name: str | None = None, *, schema: Flag = False) -> int:
    """Lists the shipped recipes, or prints one.

    Args:
        name: Name of the recipe to print.
        schema: Print the JSON Schema of recipes.
    """
    if schema:
        print(json.dumps(recipe_schema(), indent=2))
    elif name is not None:
        print(read_recipe(name)[0], end="")
    else:
        table = Table("recipe", "what it does", box=None)
        for recipe, text in shipped().items():
            table.add_row(recipe, description(text))
        console.print(table)
    return 0


def operators(name: str | None = None) -> int:
    """Lists the operators, or the fields of one.

    Args:
        name: Name of an operator, or my_package.module:ClassName.
    """
    if name is None:
        table = Table("operator", "kind", "what it does", box=None)
        for operator in OPERATORS.names():
            kind = OPERATORS.find(operator)
            table.add_row(operator, kind.kind, (kind.__doc__ or "").split("\n", 1)[0])
        console.print(table)
        return 0
    kind = OPERATORS.find(name)
    table = Table("field", "default", "meaning", box=None)
    if issubclass(kind, VariantOperator):
        names = ", ".join(kind.variants.names())
        meaning = f"One of {names}: `overpaint methods NAME` shows its fields."
        table.add_row("method", json.dumps(kind.default_method), meaning)
    for field, info in kind.model_fields.items():
        if field == "settings":
            continue
        default = "required" if info.is_required() else json.dumps(info.default, default=str)
        table.add_row(field, default, " ".join((info.description or "").split()))
    console.print(table)
    return 0
