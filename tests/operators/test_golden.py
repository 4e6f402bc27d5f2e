"""Golden fingerprints: the keys of everybody's rows go by them.

A fingerprint changes when a method gives other pixels (raise its `pixels_version`) or has a new
field, and then its own alone. Write a new method's into golden.json; a change of any other is a
change of its users' keys, and is named in the changelog.
"""

import importlib
import json
from pathlib import Path

import pytest
from overpaint.operators.edit import Edit
from overpaint.operators.methods import METHODS
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.identity import digest, operator_fingerprint
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.variant import VariantOperator

GOLDEN = Path(__file__).with_name("golden.json")
HUB = {"checkpoint": "owner/name", "revision": "0" * 40}
# Weights of a hub id are identified by its revision: papercut's own may be trained on.


def fingerprints() -> dict[str, str]:
    """The fingerprint of every operator and variant that comes along, with default fields."""
    made = {}
    for name in OPERATORS.names():
        kind = OPERATORS.find(name)
        if issubclass(kind, VariantOperator):
            for method in kind.variants.names():
                fields = hub_fields({*kind.model_fields, *kind.variants.find(method).model_fields})
                made[f"{name}.{method}"] = operator_fingerprint(kind(method=method, **fields))
        else:
            made[name] = operator_fingerprint(kind(**hub_fields(kind.model_fields)))
    return made


def hub_fields(names) -> dict[str, str]:
    return {
        name: HUB[own]
        for name in names
        if (own := name.removeprefix("sam_").removeprefix("clip_")) in HUB
    }


def test_fingerprints_are_those_of_every_earlier_version():
    assert fingerprints() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("kind", ["edit", "score", "mask"])
def test_column_that_counts_cut_tokens_is_in_no_fingerprint(kind):
    operator = OPERATORS.find(kind)(checkpoint="owner/name")
    plan = Plan(name="one", stages=(Stage(operator=operator, prefix="a_"),))
    names = [o.name for o in operator.outputs if not o.name.endswith("tokens_cut")]
    assert len(names) == len(operator.outputs) - 1
    written = {name: f"a_{name}" for name in names}
    expected = digest([operator_fingerprint(operator), {}, written])
    assert plan.fingerprints()[kind] == expected
    (cut,) = {o.name for o in operator.outputs} - set(names)
    renamed = Stage(operator=operator, prefix="a_", writes={cut: "mine"})
    other = Plan(name="one", stages=(renamed,)).fingerprints()[kind]
    assert other != expected, "a name that the user gives counts: earlier rows do not have it"


METHOD = '''
from overpaint.operators.methods.sdedit import SDEdit

class Mine(SDEdit):
    """A method of somebody's own."""
{field}
'''


@pytest.fixture
def method_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(module, field=""):
        (tmp_path / f"{module}.py").write_text(METHOD.format(field=field))
        importlib.invalidate_caches()
        return Edit(method=f"{module}:Mine", **HUB)

    return write


def test_new_method_and_a_new_field_of_it_change_no_other_fingerprint(method_file):
    before = fingerprints()
    first = operator_fingerprint(method_file("mine"))
    second = operator_fingerprint(method_file("mine_too", "    unused: float | None = None"))
    assert first != second
    assert first not in before.values()
    assert fingerprints() == before


def test_field_that_came_later_changes_a_fingerprint_only_where_it_is_set():
    plain = operator_fingerprint(Edit(method="sdedit", **HUB))
    assert operator_fingerprint(Edit(method="sdedit", eta=0.0, **HUB)) == plain
    assert operator_fingerprint(Edit(method="sdedit", eta=0.5, **HUB)) != plain


def test_moved_module_of_a_method_keeps_its_fingerprint(monkeypatch):
    kind = METHODS.find("sdedit")
    before = operator_fingerprint(Edit(method="sdedit", **HUB))
    monkeypatch.setattr(kind, "__module__", "overpaint.operators.methods.elsewhere.sdedit")
    assert METHODS.name_of(kind) == "sdedit"
    assert operator_fingerprint(Edit(settings=kind(), **HUB)) == before


def test_pixels_version_of_a_method_changes_its_fingerprint_alone(monkeypatch):
    before = fingerprints()
    monkeypatch.setattr(METHODS.find("ddim"), "pixels_version", 2)
    after = fingerprints()
    assert {name for name in after if after[name] != before[name]} == {"edit.ddim"}
