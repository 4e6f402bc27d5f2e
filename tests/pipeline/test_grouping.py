"""Rows of one source together: the same order however many rows are held in memory."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.pipeline.runs import grouping
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.grouping import SourceRuns, sorted_by_source
from overpaint.pipeline.runs.inputs import Input, InputRequest
from overpaint.pipeline.runs.planning import plan_parts, write_plan
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.tables.parts import TableStream, part_of_table
from toy_runs import toy_plan


@pytest.fixture
def tiny(monkeypatch):
    """Bounds of memory that a test's rows go beyond."""
    monkeypatch.setattr(grouping, "_HELD_RUNS", 50)
    monkeypatch.setattr(grouping, "_BUCKET_RUNS", 20)
    monkeypatch.setattr(grouping, "_MAX_BUCKETS", 1000)
    monkeypatch.setattr(grouping, "_CHUNK", 32)


def in_batches(rows, size=17):
    tables = [
        pa.Table.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)
    ]
    parts = tuple(part_of_table(f"{n}.parquet", table) for n, table in enumerate(tables))
    return TableStream(tables[0].schema, parts)


def by_first_appearance(rows):
    order = {}
    for row in rows:
        order.setdefault(row["source_uri"], len(order))
    return sorted(rows, key=lambda row: order[row["source_uri"]])


CASES = {
    "shuffled": [f"{number % 90}" for number in random.Random(3).sample(range(400), 400)],
    "pass after pass": [f"{number % 100}" for number in range(400)],
    "one source comes back": [*map(str, range(200)), "0", *map(str, range(200, 300))],
    "few sources": [f"{number % 2}" for number in range(300)],
    "runs over batches": [f"{number // 40 % 5}" for number in range(400)],
}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("case", CASES)
def test_rows_are_sorted_on_disk_as_in_memory(case):
    rows = [{"source_uri": name, "n": place} for place, name in enumerate(CASES[case])]
    stream = in_batches(rows)
    with SourceRuns() as runs:
        for batch in stream.batches(["source_uri"]):
            runs.add(batch.table["source_uri"].to_pylist())
        assert not runs.are_grouped()
        tables = list(
            sorted_by_source(lambda: (b.table for b in stream.batches()), "source_uri", runs)
        )
    assert [row for table in tables for row in table.to_pylist()] == by_first_appearance(rows)


@pytest.mark.usefixtures("tiny")
def test_rows_that_stand_together_are_known_to_across_batches():
    with SourceRuns() as runs:
        for start in range(0, 300, 10):
            runs.add([f"{place // 7}" for place in range(start, start + 10)])
        assert runs.are_grouped()
        runs.add(["0"])
        assert not runs.are_grouped()


@pytest.mark.usefixtures("tiny")
def test_plan_of_an_input_in_parts_is_that_of_one_table():
    rng = random.Random(7)
    rows = [
        {"source_uri": f"{rng.randrange(60)}", "instruction": f"{rng.randrange(4)}", "n": place}
        for place in range(500)
    ]
    plan = toy_plan(row={"candidates": 2})
    whole = list(plan_parts(plan, Input.of(pa.Table.from_pylist(rows), "/")))
    parts = list(plan_parts(plan, Input(in_batches(rows), "/")))
    assert [table.to_pylist() for table, _ in whole] == [table.to_pylist() for table, _ in parts]
    assert sum(n for _, n in whole) == sum(n for _, n in parts) > 0


def test_plan_is_written_without_all_rows_in_memory(tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "n"\n[[stage]]\noperator = "negative"\n')
    (tmp_path / "input").mkdir()
    for part in range(3):
        table = pa.table({"source_uri": [f"{part}-{n}.png" for n in range(2000)]})
        pq.write_table(table, tmp_path / "input" / f"{part}.parquet")

    def read_table(stream):
        raise AssertionError("the whole input is read at once")

    monkeypatch.setattr(TableStream, "table", read_table)
    assert main(["plan", str(recipe), "--input", str(tmp_path / "input")]) == 0
    run_input = InputRequest(str(tmp_path / "input")).read()
    assert run_input.survey.num_rows == 6000
    folder = RunFolder(Storage(str(tmp_path / "run")))
    assert write_plan(toy_plan(row={"instruction": "x"}), run_input, folder).num_rows == 6000
