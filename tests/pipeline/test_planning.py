import datetime
import random

import pyarrow as pa
import pytest
from overpaint.operators.fetch import Fetch
from overpaint.operators.store import Store
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import PART_ROWS, plan_parts, write_plan
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage
from toy_operators import ToyBoxes, ToyEdit
from toy_runs import plan_rows, table_of, toy_plan


def planned(plan, given):
    """The planned rows, and how many identical ones were left out."""
    parts = list(plan_parts(plan, given))
    return [row for table, _ in parts for row in table.to_pylist()], sum(n for _, n in parts)


def rows_of(*instructions, source="a.png"):
    return [{"source_uri": source, "instruction": text} for text in instructions]


def refused(plan, given):
    with pytest.raises(UsageError) as caught:
        planned(plan, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plan_keeps_the_rows_of_one_source_together_in_order_of_first_appearance():
    order = ["b", "a", "b", "c", "a", "b"]
    rows = [{"source_uri": name, "instruction": str(i)} for i, name in enumerate(order)]
    found, _ = planned(toy_plan(), table_of(rows))
    assert [row["source_uri"] for row in found] == ["b", "b", "b", "a", "a", "c"]
    assert [row["instruction"] for row in found] == ["0", "2", "5", "1", "4", "3"]
    assert len({row["group_id"] for row in found}) == 3


def test_plan_of_a_shuffled_input_has_the_same_rows():
    rows = [
        {"source_uri": f"{i // 3}.png", "instruction": f"make it {i}", "note": i}
        for i in range(200)
    ]
    shuffled = random.Random(5).sample(rows, len(rows))
    plan = toy_plan(row={"candidates": 2})
    first, _ = planned(plan, table_of(rows))
    second, _ = planned(plan, table_of(shuffled))
    assert sorted(first, key=lambda row: row["key"]) == sorted(second, key=lambda row: row["key"])
    assert first != second


def test_plan_identical_rows_collapse_and_are_counted():
    found, num_duplicates = planned(toy_plan(), table_of(rows_of("x", "y", "x", "x")))
    assert [row["instruction"] for row in found] == ["x", "y"]
    assert num_duplicates == 2


def test_plan_rows_that_differ_in_what_no_editing_stage_reads_are_one_edit():
    rows = [{**row, "note": i} for i, row in enumerate(rows_of("x", "x"))]
    found, num_duplicates = planned(toy_plan(), table_of(rows))
    assert (len(found), num_duplicates) == (1, 1)
    assert found[0]["in_note"] == 0


def test_plan_edits_and_candidates_multiply_rows():
    row = {"candidates": 3, "edits": [{"instruction": "red"}, {"instruction": "blue"}]}
    found, _ = planned(toy_plan(row=row), table_of([{"source_uri": "a"}, {"source_uri": "b"}]))
    assert len(found) == 12
    assert [(row["instruction"], row["candidate"]) for row in found[:6]] == [
        (colour, candidate) for colour in ("red", "blue") for candidate in range(3)
    ]
    assert len({row["key"] for row in found}) == 12
    assert len({row["seed"] for row in found}) == 12


def test_plan_default_serves_where_the_table_has_no_value():
    plan = toy_plan(row={"instruction": "default", "mood": "calm"})
    rows = [{"source_uri": "a", "instruction": "own"}, {"source_uri": "b", "instruction": None}]
    found, _ = planned(plan, table_of(rows))
    assert [row["instruction"] for row in found] == ["own", "default"]
    assert [row["in_mood"] for row in found] == ["calm", "calm"]
    written_out, _ = planned(toy_plan(), table_of(rows_of("default", source="b")))
    assert found[1]["key"] == written_out[0]["key"], "where a value comes from is no identity"


def test_plan_default_serves_where_the_table_has_a_blank():
    blanks = ["", " ", "\t\n", "\u3000", None]
    rows = [{"source_uri": str(i), "instruction": text} for i, text in enumerate(blanks)]
    found, _ = planned(toy_plan(row={"instruction": "default"}), table_of(rows))
    assert [row["instruction"] for row in found] == ["default"] * len(blanks)
    without_default, _ = planned(toy_plan(), table_of(rows))
    assert [row["instruction"] for row in without_default] == blanks, "the table's own stays"
    edits = {"edits": [{"instruction": "red"}, {"instruction": "blue"}]}
    several, _ = planned(toy_plan(row=edits), table_of(rows[:1]))
    assert [row["instruction"] for row in several] == ["red", "blue"]


def test_plan_default_serves_in_a_column_without_any_value():
    nothing = pa.table({"source_uri": ["a"], "instruction": ["x"], "mood": pa.nulls(1)})
    found, _ = planned(toy_plan(row={"mood": "calm"}), Input.of(nothing, "/"))
    assert found[0]["in_mood"] == "calm"


def test_plan_columns_that_no_stage_reads_become_in_columns():
    row = {"source_uri": "a", "instruction": "x", "caption": "mine", "width": 3, "in_x": 1, "x": 2}
    found, _ = planned(toy_plan(), table_of([row | {"key": "k", "status": "s", "candidate": 9}]))
    kept = {name: value for name, value in found[0].items() if name.startswith("in_")}
    assert kept == {
        "in_caption": "mine",  # a stage of the plan writes captions
        "in_width": 3,
        "in_in_x": 1,
        "in_x": 2,
        "in_key": "k",
        "in_status": "s",
        "in_candidate": 9,
    }
    assert found[0]["candidate"] == 0


def test_plan_seeds_come_from_keys_and_given_ones_are_kept():
    plain, _ = planned(toy_plan(), table_of(rows_of("x")))
    assert plain[0]["seed"] == int(plain[0]["key"][:16], 16) >> 1
    given, _ = planned(toy_plan(), table_of([rows_of("x")[0] | {"seed": 2**63 - 1}]))
    assert given[0]["seed"] == 2**63 - 1


def test_plan_given_seeds_make_different_rows_and_different_candidates():
    rows = [rows_of("x")[0] | {"seed": seed} for seed in (7, 8, None)]
    found, num_duplicates = planned(toy_plan(row={"candidates": 2}), table_of(rows))
    assert num_duplicates == 0
    assert len({row["key"] for row in found}) == 6
    assert [row["seed"] for row in found[:4]] == [7, 8, 8, 9]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "seven", True])
def test_plan_default_seed_out_of_range_is_refused(seed):
    assert "seed" in refused(toy_plan(row={"seed": seed}), table_of(rows_of("x")))


@pytest.mark.parametrize("seed", [-1, 1.5, "seven"])
def test_plan_given_seed_out_of_range_is_refused(seed):
    assert "'seed'" in refused(toy_plan(), table_of([rows_of("x")[0] | {"seed": seed}]))


@pytest.mark.parametrize("candidates", [0, -1, 1.5, "two", True, 10**9])
def test_plan_candidates_out_of_range_are_refused(candidates):
    with pytest.raises(ValueError, match=rf"row.candidates = {candidates!r}"):
        toy_plan(row={"candidates": candidates})


@pytest.mark.parametrize("edits", [[], "red", [1], {"instruction": "red"}])
def test_plan_edits_of_a_wrong_form_are_refused(edits):
    with pytest.raises(ValueError, match="edits"):
        toy_plan(row={"edits": edits})


def boxes_plan(**fields):
    stages = [
        Stage(operator=Fetch(), name="fetch"),
        Stage(operator=ToyBoxes(), name="box"),
        Stage(operator=ToyEdit(), name="edit"),
        Stage(operator=Store(), name="store"),
    ]
    return Plan(name="boxes", stages=stages, **fields)


def test_plan_column_that_a_stage_reads_gets_the_type_that_it_declares():
    row = rows_of("x")[0] | {"box": [1, 2, 3, 4]}
    parts = list(plan_parts(boxes_plan(), table_of([row])))
    assert parts[0][0].schema.field("box").type == pa.list_(pa.float64())
    assert parts[0][0]["box"].to_pylist() == [[1.0, 2.0, 3.0, 4.0]]


def test_plan_column_of_another_type_is_refused_before_anything_is_written(tmp_path):
    given = table_of([rows_of("x")[0] | {"box": "1,2,3,4"}])
    folder = RunFolder(Storage(str(tmp_path)))
    with pytest.raises(UsageError, match="column 'box' is string, and the plan needs list"):
        write_plan(boxes_plan(), given, folder)
    assert folder.storage.list() == []
    message = refused(boxes_plan(row={"box": "1,2"}), table_of(rows_of("x")))
    assert "row.box = '1,2'" in message


def test_plan_instruction_read_as_numbers_is_text():
    found, _ = planned(toy_plan(), table_of([{"source_uri": "a", "instruction": 1984}]))
    assert found[0]["instruction"] == "1984"


def test_plan_other_columns_keep_their_types_and_values():
    day = datetime.date(2026, 11, 23)
    row = rows_of("x")[0] | {"day": day, "tags": ["a", "b"], "meta": {"camera": "x", "iso": 100}}
    found, _ = planned(toy_plan(), table_of([row]))
    assert found[0]["in_day"] == day
    assert found[0]["in_tags"] == ["a", "b"]
    assert found[0]["in_meta"] == {"camera": "x", "iso": 100}


def test_plan_parts_hold_whole_groups_and_every_row(tmp_path):
    rows = [{"source_uri": f"{i // 7}.png", "instruction": f"make it {i}"} for i in range(20_000)]
    folder = RunFolder(Storage(str(tmp_path)))
    counts = write_plan(toy_plan(), table_of(rows), folder)
    parts = [folder.read_part("plan", part) for part in folder.parts("plan")]
    assert counts.num_rows == sum(part.num_rows for part in parts) == 20_000
    assert counts.num_parts == len(parts) == 5
    groups = [set(part["group_id"].to_pylist()) for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert all(part.num_rows >= PART_ROWS for part in parts[:-1])
    assert len({row["key"] for row in plan_rows(folder)}) == 20_000


def test_plan_written_twice_is_byte_for_byte_the_same(tmp_path):
    given = table_of([{"source_uri": f"{i % 5}", "instruction": str(i)} for i in range(500)])
    for name in ("one", "two"):
        write_plan(toy_plan(), given, RunFolder(Storage(str(tmp_path / name))))
    assert (tmp_path / "one/plan/part-00000.parquet").read_bytes() == (
        tmp_path / "two/plan/part-00000.parquet"
    ).read_bytes()


def test_plan_of_one_huge_group_is_cut_into_parts():
    rows = rows_of(*(str(i) for i in range(3 * PART_ROWS)))
    parts = [table.num_rows for table, _ in plan_parts(toy_plan(), table_of(rows))]
    assert sum(parts) == 3 * PART_ROWS
    assert max(parts) <= 2 * PART_ROWS
