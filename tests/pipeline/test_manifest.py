import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.pipeline import columns as c
from overpaint.pipeline.plan import Budget
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.runs.manifest import (
    Ledger,
    assemble,
    count,
    finish_part,
    manifest_ledger,
    manifest_schema,
    result_name,
    result_schema,
)
from overpaint.pipeline.runs.planning import plan_parts
from pydantic import ValidationError
from toy_runs import manifest_rows, plan_rows, planned_run, table_of, toy_plan


def ended(plan, rows, **values):
    """Results for planned rows, as the last group commits them."""
    done = {"status": "accepted", "stage": None, "brightness": 0.5, **values}
    return pa.Table.from_pylist([{**done, "key": row["key"]} for row in rows], result_schema(plan))


def sources(num):
    return [{"source_uri": f"{i}.png", "instruction": "x", "note": i} for i in range(num)]


def test_manifest_has_the_plans_rows_in_its_order_whatever_order_they_ended_in():
    plan = toy_plan()
    table, _ = next(plan_parts(plan, table_of(sources(6))))
    rows = table.to_pylist()
    results = [ended(plan, rows[4:]), ended(plan, [rows[2], rows[0]]), ended(plan, [rows[1]])]
    results.append(ended(plan, [rows[3], rows[0]]))  # a row that two sessions committed
    manifest = assemble(plan, table, results)
    assert manifest["key"].to_pylist() == table["key"].to_pylist()
    assert manifest["in_note"].to_pylist() == list(range(6))
    assert manifest["seed"].to_pylist() == table["seed"].to_pylist()
    assert set(manifest["fingerprint"].to_pylist()) == {plan.fingerprint()}


def test_manifest_without_a_result_for_a_row_is_refused():
    plan = toy_plan()
    table, _ = next(plan_parts(plan, table_of(sources(3))))
    with pytest.raises(KeyError):
        assemble(plan, table, [ended(plan, table.to_pylist()[:2])])


def test_manifest_columns_are_the_contract_then_scores_then_the_input():
    plan = toy_plan()
    given = table_of([{**sources(1)[0], "mask_phrase": "sky", "mood": "calm"}])
    table, _ = next(plan_parts(plan, given))
    schema = manifest_schema(plan, table.schema)
    fixed = [column.name for column in c.MANIFEST]
    own = [
        "mask_sha256",
        "editable_mask_sha256",
        "brightness",
        "in_note",
        "in_mask_phrase",
        "in_mood",
    ]
    assert schema.names == [*fixed, *own]
    manifest = assemble(plan, table, [ended(plan, table.to_pylist())])
    assert manifest.schema == schema
    assert manifest["in_mask_phrase"].to_pylist() == ["sky"]
    assert manifest["in_mood"].to_pylist() == ["calm"]


def test_manifest_policy_rejects_with_every_broken_rule_and_touches_no_other_row():
    policy = {"brightness": {"min": 0.4, "max": 0.6}}
    plan = toy_plan(policy=policy)
    table, _ = next(plan_parts(plan, table_of(sources(5))))
    rows = table.to_pylist()
    results = [
        ended(plan, rows[:1], brightness=0.5),
        ended(plan, rows[1:2], brightness=0.3),
        ended(plan, rows[2:3], brightness=None),
        ended(plan, rows[3:4], status="failed", stage="edit", error_code="x", brightness=None),
        ended(plan, rows[4:5], status="rejected", stage="edit", error_code="y", brightness=None),
    ]
    manifest = assemble(plan, table, results).to_pylist()
    assert [row["status"] for row in manifest] == [
        *("accepted", "rejected", "rejected", "failed", "rejected")
    ]
    reasons = [row["reject_reasons"] for row in manifest]
    assert reasons == [None, ["brightness < 0.4"], ["brightness is null"], None, None]


def test_finish_part_writes_the_manifest_and_clears_the_results(tmp_path):
    plan = toy_plan()
    run = planned_run(plan, table_of(sources(5)), tmp_path)
    rows = plan_rows(run.folder)
    for chunk in (rows[:2], rows[2:]):
        name = result_name([row["key"] for row in chunk])
        run.folder.write_result(0, name, ended(plan, chunk))
    assert finish_part(run.folder, plan, 0) == Ledger(5, 5, 0, 0)
    assert run.folder.results(0) == []
    assert [row["key"] for row in manifest_rows(run.folder)] == [row["key"] for row in rows]
    assert manifest_ledger(run.folder, [0]) == Ledger(5, 5, 0, 0)
    first = (tmp_path / "manifest/part-00000.parquet").read_bytes()
    run.folder.write_result(0, "again", ended(plan, rows))
    finish_part(run.folder, plan, 0)
    assert (tmp_path / "manifest/part-00000.parquet").read_bytes() == first


def test_result_name_is_of_the_rows_and_not_of_their_order():
    assert result_name(["a", "b"]) == result_name(["b", "a"]) != result_name(["a"])


@given(st.lists(st.sampled_from(["accepted", "rejected", "failed"])), st.integers(0, 50))
def test_ledger_adds_up(statuses, more):
    ledger = count(statuses, len(statuses) + more)
    assert ledger.ended == len(statuses)
    assert ledger.pending == more
    assert ledger.plus(Ledger()) == ledger
    assert sum(ledger.as_json().values()) == 2 * ledger.planned


@pytest.mark.parametrize(
    ("ended", "failed", "expected"),
    [(999, 999, False), (1000, 500, False), (1000, 501, True), (2000, 1000, False)],
)
def test_budget_counts_from_a_thousand_rows_on(ended, failed, expected):
    assert Budget().is_exceeded(ended, failed) is expected


NUMBERS = st.floats(allow_nan=False)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_policy_accepts_exactly_what_lies_between_its_bounds(a, b, value):
    low, high = min(a, b), max(a, b)
    reasons = Policy({"x": Bounds(min=low, max=high)}).reasons({"x": value})
    assert (reasons == []) is (low <= value <= high)


@given(NUMBERS)
def test_policy_takes_no_value_for_a_broken_rule_unless_told(bound):
    for bounds in (Bounds(min=bound), Bounds(max=bound)):
        policy = Policy({"x": bounds})
        assert policy.reasons({"x": None}) == ["x is null"]
        assert len(policy.reasons({"x": math.nan})) == 1
    assert Policy({"x": Bounds(min=bound, allow_null=True)}).reasons({"x": None}) == []


def test_policy_names_broken_rules_in_its_own_order():
    policy = Policy({"b": Bounds(min=1), "a": Bounds(max=0), "c": Bounds(min=0)})
    assert policy.reasons({"a": 5, "b": 0, "c": 1}) == ["b < 1", "a > 0"]


@pytest.mark.parametrize("bounds", [{}, {"allow_null": True}, {"min": 2, "max": 1}, {"least": 1}])
def test_policy_bounds_that_bound_nothing_are_refused(bounds):
    with pytest.raises(ValidationError):
        Bounds(**bounds)
