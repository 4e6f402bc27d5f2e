"""Finding recipes: a path, or the name of one that comes with Overpaint."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipe import apply_settings, plan_from_tables, read_toml


def shipped() -> dict[str, str]:
    """The text of each recipe that comes with Overpaint, by name."""
    folder = files("overpaint.jobs") / "recipes"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry.read_text() for entry in sorted(found, key=str)}


def read_recipe(recipe: str) -> tuple[str, str]:
    """The text of a recipe, and the file to name in errors.

    Args:
        recipe: a path that ends in `.toml` or has a folder in it, or the name of a shipped recipe.

    Raises:
        UsageError: there is none, or it is no text.
    """
    if recipe.endswith(".toml") or "/" in recipe:
        path = Path(recipe)
        if not path.is_file():
            raise UsageError(f"{recipe}: no such recipe file")
        try:
            return path.read_text(encoding="utf-8"), recipe
        except UnicodeDecodeError as error:
            raise UsageError(f"{recipe}: not TOML: it is no UTF-8 text") from error
    known = shipped()
    if recipe not in known:
        raise UsageError(f"no recipe {recipe!r} comes with Overpaint: {near_miss(recipe, known)}")
    return known[recipe], f"{recipe}.toml"


def load_plan(recipe: str, settings: Sequence[str] = ()) -> Plan:
    """The plan of a recipe, with `stage.field=value` settings applied.

    Raises:
        UsageError: the recipe is missing or wrong.
    """
    text, file = read_recipe(recipe)
    return plan_from_tables(apply_settings(read_toml(text, file), settings, file), file)


def description(text: str) -> str:
    """What a recipe says of itself."""
    tables: dict[str, Any] = read_toml(text, "recipe")
    return str(tables.get("description", ""))
