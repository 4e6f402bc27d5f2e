"""The rule of words: a docstring can be understood before the code is read, see CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("pipeline", "operators", "cluster", "jobs")
    for path in (ROOT / folder).rglob("*.py")
)
FRAGMENTS = {
    *("What", "Whether", "How", "Where", "Which", "Who", "Whose", "When", "If"),
    *("Of", "For", "With", "As"),
    *("That", "It", "Its", "They", "Their", "This", "These", "Those", "There"),
}
"""Words that begin a fragment, or refer to what was not named yet."""


def documented(path):
    """Every class, function and property of a module that has a docstring, with its first line."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node, text.split("\n", 1)[0]


def is_property(node):
    names = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in node.decorator_list}
    return bool(names & {"property", "cached_property"})


def complaint(node, line):
    """What is wrong with the first line of a docstring; None where nothing is."""
    word = line.split(" ", 1)[0].rstrip(",:;.")
    if word in FRAGMENTS:
        return f"begins with {word!r}"
    if isinstance(node, ast.ClassDef) or is_property(node):
        return None
    # A verb in the third person: Returns, Reads, Tells.
    return None if word.endswith("s") and word[:1].isupper() else f"begins with {word!r}, no verb"


@pytest.mark.parametrize("path", MODULES)
def test_docstrings_begin_with_a_verb_or_a_noun(path):
    wrong = [
        f"{path}:{node.lineno}: {node.name}: {reason}: {line}"
        for node, line in documented(path)
        if (reason := complaint(node, line))
    ]
    assert not wrong, "\n".join(wrong)


def test_complaints_are_made_where_they_should_be():
    module = ast.parse(
        'def a():\n    """Whether it is."""\n'
        'def b():\n    """The size."""\n'
        'def c():\n    """Returns the size."""\n'
        "class D:\n"
        '    """Of a row."""\n'
        "    @property\n"
        "    def e(self):\n"
        '        """The size."""\n'
    )
    nodes = {node.name: node for node in ast.walk(module) if hasattr(node, "name")}
    assert {name for name, node in nodes.items() if complaint(node, ast.get_docstring(node))} == {
        "a",
        "b",
        "D",
    }
