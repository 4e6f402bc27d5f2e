"""Histograms of scores and the choice of rows: over all rows, part by part."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overpaint.jobs.report.charts import BOTTOM, LEFT, RIGHT, TOP, chart
from overpaint.jobs.report.rows import RowSampler, shared_columns, shown_columns
from overpaint.jobs.report.scores import Histograms, ScoreRanges, ticks
from overpaint.pipeline.policy import Bounds, Policy
from report_runs import SCHEMA, declined, failed, planned_row


def _examined(values, policy=None, part_rows=7):
    """The range and the bars of one score, whose rows are accepted where it is positive."""
    parts = [values[i : i + part_rows] for i in range(0, len(values), part_rows)]
    tables = [
        pa.table(
            {
                "quality": pa.array(part, pa.float64()),
                "status": ["accepted" if v is not None and v > 0 else "rejected" for v in part],
            }
        )
        for part in parts
    ]
    ranges = ScoreRanges(len(parts))
    for number, table in enumerate(tables):
        ranges.add_part(number, table)
    histograms = Histograms(ranges.by_name, Policy.model_validate(policy or {}))
    for number, table in enumerate(tables):
        histograms.add_part(number, table)
    return ranges.by_name["quality"], histograms.bins("quality")


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.floats(width=64)), min_size=1, max_size=60))
def test_every_value_is_in_one_bar_or_counted_apart(values):
    found, bins = _examined(values)
    finite = [v for v in values if v is not None and abs(v) <= 1e100]
    assert sum(one.num_rows for one in bins) == len(finite) == found.num_values
    assert sum(one.num_accepted for one in bins) == sum(v > 0 for v in finite)
    assert found.num_values + found.num_null + found.num_infinite == len(values)
    drawn = chart("quality", found, bins, Bounds(min=0.5))
    for bar in drawn.bars:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= RIGHT + 1
        assert TOP <= bar.y <= BOTTOM


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0000000000000002], [100.0, 100.00000000000001], [5e-324, 1e-323], [-1e-310, 2e-310]],
)
def test_values_that_differ_in_the_last_digit_have_a_chart(values):
    found, bins = _examined(values)
    assert sum(one.num_rows for one in bins) == 2
    assert chart("quality", found, bins, None).bars


def test_bars_hold_exactly_the_values_between_their_edges():
    values = np.random.default_rng(0).normal(30, 4, 500).tolist()
    _, bins = _examined(values)
    for one in bins[1:-1]:
        assert one.num_rows == sum(one.low <= value < one.high for value in values)


def test_few_outliers_do_not_flatten_the_rest():
    values = [*np.random.default_rng(0).uniform(0, 1, 400), -5000.0, 900.0]
    _, bins = _examined(values)
    assert bins[0].low >= -1
    assert bins[-1].high <= 2
    assert bins[0].num_rows >= 1
    assert bins[-1].num_rows >= 1


@pytest.mark.parametrize(("low", "high"), [(25.0, None), (None, 90.0), (25.0, 90.0)])
def test_bounds_of_the_policy_are_on_the_axis(low, high):
    values = np.random.default_rng(0).uniform(40, 80, 100).tolist()
    bounds = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
    found, bins = _examined(values, {"quality": bounds})
    assert bins[0].low <= (low or 40)
    assert bins[-1].high >= (high or 80)
    drawn = chart("quality", found, bins, Bounds.model_validate(bounds))
    assert [mark.label for mark in drawn.bounds] == [f"{k} {v:g}" for k, v in bounds.items()]


def test_bound_far_away_stands_at_the_edge():
    found, bins = _examined([0.1, 0.2, 0.3], {"quality": {"min": -100}})
    assert bins[0].low > -1
    assert chart("quality", found, bins, Bounds(min=-100)).bounds[0].x == LEFT


def test_score_with_one_value_has_one_bar():
    _, bins = _examined([0.7] * 5)
    assert [one.num_rows for one in bins if one.num_rows] == [5]


def test_score_never_measured_has_no_bars():
    found, bins = _examined([None, math.nan, math.inf])
    assert bins == []
    assert chart("quality", found, bins, None).notes == ["2 not measured", "1 infinite"]


def test_ticks_are_round():
    assert ticks(0.03, 0.42) == [0.1, 0.2, 0.3, 0.4]
    assert ticks(-3, 17) == [0, 5, 10, 15]


def _sampled(rows, num_rows, policy=None, part_rows=50):
    sampler = RowSampler(num_rows, Policy.model_validate(policy or {}))
    for part, start in enumerate(range(0, len(rows), part_rows)):
        table = pa.Table.from_pylist(rows[start : start + part_rows], SCHEMA)
        sampler.add_part(part, table.select([*sampler.columns(part, SCHEMA)]))
    return [rows[row.part * part_rows + row.offset] for row in sampler.sample()]


def _rows(count):
    return [planned_row(number) | {"status": "accepted"} for number in range(count)]


def test_all_rows_are_sampled_where_there_is_room():
    rows = _rows(120)
    assert _sampled(rows, 120) == rows


def test_sampled_rows_do_not_depend_on_parts():
    rows = _rows(500)
    assert _sampled(rows, 60, part_rows=50) == _sampled(rows, 60, part_rows=499)


def test_sampled_rows_show_every_cause_and_leave_half_to_the_sample():
    rows = _rows(1000)
    for number in range(100, 900):
        rows[number] = failed(rows[number], "edit", "out_of_memory", "too large")
    rows[50] = failed(rows[50], "fetch", "image_empty", "no bytes")
    rows[51] = declined(rows[51], "find", "mask_empty", "nothing")
    rows[52] |= {"status": "rejected", "reject_reasons": ["clip_sim_dir < 0.2"]}
    sampled = _sampled(rows, 60)
    assert len(sampled) == 60
    for number in (50, 51, 52):
        assert rows[number] in sampled
    num_failed = sum(row["status"] == "failed" for row in sampled)
    assert 10 <= num_failed <= 10 + 40


def test_sampled_rows_show_the_worst_accepted_by_every_bound():
    rows = _rows(1000)
    rows[500] |= {"truth_gain": -9.0}
    rows[501] |= {"clip_sim_dir": -0.9}
    rows[502] |= {"background_psnr_db": 99.0}
    policy = {"clip_sim_dir": {"min": -1}, "background_psnr_db": {"max": 100}}
    sampled = _sampled(rows, 60, policy)
    assert all(rows[number] in sampled for number in (500, 501, 502))


def test_columns_keep_whole_numbers_that_javascript_cannot():
    values = shown_columns({"key": "k", "seed": 2**63 - 1, "candidate": 3, "gain": None}, ())
    assert values == {"key": "k", "seed": "9223372036854775807", "candidate": 3}


def test_columns_of_any_width_stay_small():
    row = {"key": "k", **{f"in_{number}": "x" * 10_000 for number in range(3000)}}
    assert len(str(shown_columns(row, ()))) < 6000


def test_columns_equal_in_all_rows_are_told_once():
    rows = [{"key": "a", "method": "p2p", "seed": 1}, {"key": "b", "method": "p2p", "seed": 2}]
    assert shared_columns(rows) == {"method": "p2p"}
    assert shared_columns(rows[:1]) == {}
