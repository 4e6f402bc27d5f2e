"""The table of row error codes beside the code that raises them and the README that lists them."""

import ast
import re
from pathlib import Path

import pytest
from overpaint.pipeline.conditions import CONDITIONS, PICTURES
from overpaint.pipeline.error_codes import CONDITION_ERRORS, ROW_ERRORS

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "operators", "cluster", "jobs")
ANSWERS = ("RowError", "Rejected", "Failed")


def _trees():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield ast.parse(path.read_text())


def _code_expressions():
    """Every expression that is the code of a row's answer."""
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                if name in ANSWERS:
                    yield node.args[0]
            if isinstance(node, ast.Dict):
                yield from (
                    value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and key.value == "error_code"
                )


def _codes():
    """The literal codes, and those that replace a part of a literal one."""
    expressions = list(_code_expressions())
    literals = {e.value for e in expressions if isinstance(e, ast.Constant) if e.value}
    replacements = [
        tuple(argument.value for argument in e.args)
        for e in expressions
        if isinstance(e, ast.Call) and getattr(e.func, "attr", None) == "replace"
    ]
    derived = {
        code.replace(old, new) for old, new in replacements for code in literals if old in code
    }
    return literals | derived


def _condition_codes():
    read = {
        f"{name}_{reason}"
        for name, condition in PICTURES.items()
        for reason in CONDITION_ERRORS
        if reason != "ambiguous" or condition.form == "weights"
    }
    return read | {f"{name}_missing" for name in CONDITIONS}


def test_table_has_exactly_the_codes_of_the_packages():
    assert _codes() | _condition_codes() == ROW_ERRORS.keys()


@pytest.mark.parametrize("code", ROW_ERRORS)
def test_code_is_a_word_and_its_meaning_one_sentence(code):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert re.fullmatch(r"[A-Z][^.\n]*\.", ROW_ERRORS[code])


def test_readme_lists_every_code_with_its_meaning():
    section = (ROOT / "README.md").read_text().split("\n## Error codes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w<>]+)` \| (.*) \|$", section, re.MULTILINE)
    name = "<condition>"
    shared = {f"{name}_{reason}": text.format(name) for reason, text in CONDITION_ERRORS.items()}
    own = {code: text for code, text in ROW_ERRORS.items() if code not in _condition_codes()}
    assert dict(rows) == own | shared
    assert all(f"`{condition}`" in section for condition in CONDITIONS)
