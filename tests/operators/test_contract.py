"""What holds for every operator that comes with Overpaint."""

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from types import ModuleType

import overpaint.operators
import pyarrow as pa
import pytest
from overpaint.operators.caption import Caption
from overpaint.operators.fetch import Fetch
from overpaint.operators.judge import Judge
from overpaint.operators.mask import Mask
from overpaint.operators.models.uses_checkpoint import TorchOperator
from overpaint.operators.score import Score
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.identity import operator_fingerprint
from overpaint.pipeline.operator import Operator
from pydantic import ValidationError

HEAVY = ("torch", "diffusers", "transformers", "ray", "accelerate", "peft")

MODULES = [
    module.name
    for module in pkgutil.iter_modules(overpaint.operators.__path__, "overpaint.operators.")
]


def operators_of(module: ModuleType) -> list[type[Operator]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Operator)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def test_importing_every_module_loads_nothing_heavy():
    lines = [f"import {name}" for name in MODULES]
    lines += ["import sys", f"print([name for name in {HEAVY} if name in sys.modules])"]
    command = [sys.executable, "-c", "\n".join(lines)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", MODULES)
def test_module_has_at_most_one_operator_and_is_found_by_its_name(name):
    found = operators_of(importlib.import_module(name))
    assert len(found) <= 1
    assert (name.rsplit(".", 1)[1] in OPERATORS.names()) == bool(found)


@pytest.fixture(params=OPERATORS.names())
def kind(request) -> type[Operator]:
    return OPERATORS.find(request.param)


def ready(kind: type[Operator]) -> Operator:
    """The operator with its defaults; fields without one get the first value that is allowed."""
    try:
        return kind()
    except ValidationError as error:
        pytest.skip(f"needs {[part['loc'] for part in error.errors()]}")


def test_fields_are_documented_and_make_a_schema(kind):
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert field.description[0].isupper() or field.description[0] in '"`', name
    assert kind.__doc__
    assert kind.model_json_schema()["additionalProperties"] is False


def test_columns_are_typed_and_named_once(kind):
    operator = ready(kind)
    outputs = [column.name for column in operator.outputs]
    read = [column.name for column in (*operator.inputs, *operator.optional)]
    assert len(set(outputs)) == len(outputs) > 0
    assert len(set(read)) == len(read)
    for column in (*operator.outputs, *operator.inputs, *operator.optional):
        assert isinstance(column.type, pa.DataType)
        assert column.doc


def test_operator_is_a_frozen_value_that_travels(kind):
    operator = ready(kind)
    with pytest.raises(ValidationError):
        operator.batch_size = 3
    with pytest.raises(ValidationError):
        kind(**{**operator.model_dump(), "no_such_field": 1})
    assert pickle.loads(pickle.dumps(operator)) == operator
    assert OPERATORS.find(OPERATORS.name_of(type(operator))) is kind


def test_fields_survive_a_recipe(kind):
    operator = ready(kind)
    written = operator.model_dump(mode="json")
    again = kind(**{name: value for name, value in written.items() if value is not None})
    assert again == operator
    assert all(is_toml(value) for value in written.values() if value is not None)


def is_toml(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_toml(part) for key, part in value.items())
    if isinstance(value, list):
        return all(is_toml(part) for part in value)
    return isinstance(value, bool | int | float | str)


@pytest.fixture
def small(tmp_path, noise, captioner, clipseg, sam, clip, judge) -> dict[str, tuple]:
    """Operators on tiny models, each with three rows of different content."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(noise(number, 40 + number, 30))
    words = ("remove the red circle", "make the square blue", "replace the circle on it")
    rows = [
        {
            "source_uri": f"{number}.png",
            "base_uri": str(tmp_path),
            "source_image": noise(number),
            "edited_image": noise(number + 9),
            "instruction": text,
            "source_prompt": " ".join(text.split()[number:]),
            "mask_box": [number, 2, 30, 20 + number],
        }
        for number, text in enumerate(words)
    ]
    prompt = {"prompt": "{instruction}", "max_prompt_tokens": 40, "max_new_tokens": 6}
    operators = {
        "fetch": Fetch(batch_size=3),
        "caption": Caption(checkpoint=captioner, batch_size=3, max_new_tokens=6),
        "clipseg": Mask(checkpoint=clipseg, batch_size=3),
        "sam": Mask(method="sam", sam_checkpoint=sam, batch_size=3),
        "score": Score(checkpoint=clip, batch_size=3),
        "judge": Judge(checkpoint=judge, batch_size=3, **prompt),
    }
    return {name: (operator, rows) for name, operator in operators.items()}


@pytest.mark.parametrize("name", ["fetch", "caption", "clipseg", "sam", "score", "judge"])
def test_answer_of_a_row_is_the_same_in_every_batch(small, name):
    operator, rows = small[name]
    model = operator.load()
    together = operator.run(rows, model)
    padded = [operator.run([row] * 3, model) for row in rows]
    assert [answers[0] for answers in padded] == together
    assert all(answers[0] == answers[2] for answers in padded)
    assert operator.run([rows[2], rows[0], rows[1]], model) == [together[i] for i in (2, 0, 1)]
    assert set(together[0]) == {column.name for column in operator.outputs}


@pytest.mark.parametrize("name", ["caption", "clipseg", "sam", "score", "judge"])
def test_fingerprint_follows_what_changes_bytes(small, name):
    operator, _ = small[name]
    known = {operator_fingerprint(operator)}
    for change in ({"batch_size": 2}, {"num_threads": 2}, {"dtype": "bfloat16"}):
        known.add(operator_fingerprint(operator.model_copy(update=change)))
    assert len(known) == 4
    assert operator_fingerprint(operator) in known


def test_operator_with_a_model_has_the_batches_that_all_have(kind):
    if issubclass(kind, TorchOperator) and "batch_size" not in kind.__annotations__:
        default = TorchOperator.model_fields["batch_size"].default
        assert kind.model_fields["batch_size"].default == default
