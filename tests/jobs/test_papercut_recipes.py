"""The recipes of methods on papercut: each is a plan, named after its file."""

from pathlib import Path

import pytest
from overpaint.jobs.recipes import load_plan

FILES = sorted((Path(__file__).parents[2] / "jobs/recipes/papercut").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recipe_is_a_plan_named_after_its_file(file):
    assert load_plan(str(file)).name == file.stem
