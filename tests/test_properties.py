"""Recipes, policies and tables of any content: a result, or the documented error and no other."""

import json
import string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overpaint.jobs.recipes import load_plan
from overpaint.jobs.runs.accept import read_policy
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.recipe import apply_settings, plan_from_tables, read_toml
from overpaint.pipeline.runs.inputs import Input, read_input
from overpaint.pipeline.runs.planning import plan_parts
from toy_runs import toy_plan

WORDS = st.sampled_from(
    [
        *("name", "row", "stage", "group", "policy", "budget", "limits", "output", "operator"),
        *("edit", "mask", "score", "sdedit", "gpu", "actors", "num_gpus", "candidates", "edits"),
        *("min", "max", "format", "png", "placement", "method", "batch_size", "../x", "a:b", ""),
    ]
)
LEAVES = st.one_of(
    WORDS,
    st.text(max_size=12),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.times(),
    st.datetimes(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, st.text(max_size=6)), inner)
    ),
    max_leaves=12,
)
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _result_or_error(call, *arguments) -> Any:
    """Returns the result of a call, or the usage error that it raised; other errors rise."""
    try:
        return call(*arguments)
    except UsageError as error:
        return error


def _is_sentence(error: UsageError) -> bool:
    return bool(str(error).strip()) and "\n" not in str(error).strip()


def _is_a(kind, found) -> bool:
    """Tells whether a result is of a kind, or a usage error of one line."""
    return _is_sentence(found) if isinstance(found, UsageError) else isinstance(found, kind)


@QUICK
@given(st.dictionaries(st.one_of(WORDS, st.text(max_size=6)), VALUES, max_size=6))
def test_tables_of_any_shape_are_a_plan_or_a_usage_error(tables):
    assert _is_a(Plan, _result_or_error(plan_from_tables, tables, "recipe.toml"))


@QUICK
@given(
    st.lists(st.dictionaries(WORDS, VALUES, max_size=5), max_size=3),
    st.dictionaries(WORDS, VALUES, max_size=3),
)
def test_stages_of_any_fields_are_a_plan_or_a_usage_error(stages, row):
    named = [{"operator": "edit", **stage} for stage in stages]
    tables = {"stage": named, "row": row}
    assert _is_a(Plan, _result_or_error(plan_from_tables, tables, "recipe.toml"))


@QUICK
@given(st.text(alphabet=string.printable, max_size=80))
def test_text_of_any_kind_is_toml_or_a_usage_error(text):
    assert _is_a(dict, _result_or_error(read_toml, text, "recipe.toml"))


@QUICK
@given(st.binary(max_size=60))
def test_recipe_file_of_any_bytes_is_a_plan_or_a_usage_error(tmp_path, data):
    path = tmp_path / "recipe.toml"
    path.write_bytes(data)
    assert _is_a(Plan, _result_or_error(load_plan, str(path)))


@QUICK
@given(st.lists(st.text(max_size=30), max_size=3))
def test_settings_of_any_text_are_applied_or_a_usage_error(given_settings):
    tables = {"stage": [{"operator": "edit"}]}
    assert _is_a(dict, _result_or_error(apply_settings, tables, given_settings, "recipe.toml"))


@QUICK
@given(st.binary(max_size=60))
def test_policy_file_of_any_bytes_is_a_policy_or_a_usage_error(tmp_path, data):
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    assert _is_a(Policy, _result_or_error(read_policy, str(path)))


@QUICK
@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_table_file_of_any_bytes_is_a_table_or_a_usage_error(tmp_path, data, ending):
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(data)
    assert _is_a(Input, _result_or_error(read_input, str(path)))


NAMES = st.one_of(
    st.sampled_from(
        ["source_uri", "instruction", "seed", "key", "candidate", "in_x", "status", ""]
    ),
    st.text(max_size=8),
)
CELLS = st.one_of(
    st.none(),
    st.text(max_size=10),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.binary(max_size=6),
    st.lists(st.integers(-5, 5), max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.integers(-5, 5), min_size=1),
)


def _planned(path: Path) -> list[Any] | UsageError:
    """Reads and plans a table; returns the keys of its rows, or the usage error."""
    table = _result_or_error(read_input, str(path))
    if isinstance(table, UsageError):
        return table
    plan = toy_plan(row={"instruction": "paint"})
    parts = _result_or_error(lambda: list(plan_parts(plan, table)))
    if isinstance(parts, UsageError):
        return parts
    return [key for part, _ in parts for key in part["key"].to_pylist()]


def _are_keys_or_error(found: list[Any] | UsageError) -> bool:
    if isinstance(found, UsageError):
        return _is_sentence(found)
    are_hex = all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in found)
    return are_hex and len(set(found)) == len(found)


@QUICK
@given(st.data())
def test_parquet_of_any_types_is_planned_or_a_usage_error(tmp_path, data):
    num_rows = data.draw(st.integers(0, 4))
    names = data.draw(st.lists(NAMES, max_size=4))
    columns = []
    for _ in names:
        try:
            columns.append(pa.array([data.draw(CELLS) for _ in range(num_rows)]))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns.append(pa.nulls(num_rows))
    names.append("source_uri")
    columns.append(pa.array([data.draw(st.text(max_size=8)) for _ in range(num_rows)], pa.string()))
    try:
        table = pa.Table.from_arrays(columns, names=names)
        pq.write_table(table, tmp_path / "rows.parquet")
    except (UnicodeEncodeError, pa.ArrowException):
        return
    assert _are_keys_or_error(_planned(tmp_path / "rows.parquet"))


@QUICK
@given(st.lists(st.dictionaries(NAMES, CELLS.filter(lambda cell: not isinstance(cell, bytes)))))
def test_jsonl_of_any_cells_is_planned_or_a_usage_error(tmp_path, rows):
    lines = [json.dumps({"source_uri": "a.png", **row}) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert _are_keys_or_error(_planned(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("depth", [100, 5000])
@pytest.mark.parametrize("ending", ["jsonl", "toml"])
def test_deep_nesting_is_a_usage_error(tmp_path, depth, ending):
    text = "[" * depth + "]" * depth
    if ending == "toml":
        assert _is_a(dict, _result_or_error(read_toml, f"a = {text}", "recipe.toml"))
    else:
        (tmp_path / "rows.jsonl").write_text(f'{{"source_uri": "a.png", "x": {text}}}\n')
        assert _are_keys_or_error(_planned(tmp_path / "rows.jsonl"))
