from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from overpaint.pipeline.runs.manifest import Ledger, finish_part, result_name, result_schema
from overpaint.pipeline.runs.tasks import Task, cut, remaining
from toy_runs import plan_rows, planned_run, table_of, toy_plan


@st.composite
def _parts(draw):
    """The group of each row of a plan part, and the places that have not ended."""
    sizes = draw(st.lists(st.integers(1, 9), max_size=12))
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    left = draw(st.sets(st.integers(0, max(0, len(groups) - 1)), max_size=len(groups)))
    return groups, sorted(left) if groups else []


@given(_parts(), st.integers(1, 10))
def test_cut_covers_every_place_once_in_order_and_splits_only_larger_groups(part, task_rows):
    groups, left = part
    tasks = list(cut(left, groups, task_rows))
    assert [place for task in tasks for place in task] == left
    assert all(1 <= len(task) <= task_rows for task in tasks)
    for group in set(groups):
        places = [place for place in left if groups[place] == group]
        holding = [task for task in tasks if set(task) & set(places)]
        if len(places) <= task_rows:
            assert len(holding) <= 1


@given(_parts(), st.integers(1, 10))
def test_cut_wastes_no_room_for_a_whole_group(part, task_rows):
    groups, left = part
    tasks = list(cut(left, groups, task_rows))
    for task, following in pairwise(tasks):
        first = [place for place in following if groups[place] == groups[following[0]]]
        assert len(task) + len(first) > task_rows or groups[task[-1]] == groups[following[0]]


def commit(run, places, part=0, status="accepted"):
    rows = [plan_rows(run.folder)[place] for place in places]
    stage = None if status == "accepted" else "edit"
    table = pa.Table.from_pylist(
        [{"key": row["key"], "status": status, "stage": stage, "brightness": 0.5} for row in rows],
        result_schema(run.plan),
    )
    run.folder.write_result(part, result_name([row["key"] for row in rows]), table)


def test_remaining_is_the_plan_less_what_has_ended(tmp_path):
    rows = [{"source_uri": f"{i // 2}.png", "instruction": str(i)} for i in range(10)]
    run = planned_run(toy_plan(), table_of(rows), tmp_path)
    left = remaining(run.folder, 4)
    assert left.ledger == Ledger(10)
    assert left.tasks == (Task(0, (0, 1, 2, 3)), Task(0, (4, 5, 6, 7)), Task(0, (8, 9)))
    assert left.pending == {0: 10}

    commit(run, (0, 1, 2, 3))
    commit(run, (5,), status="failed")
    left = remaining(run.folder, 4)
    assert left.ledger == Ledger(10, accepted=4, failed=1)
    assert left.tasks == (Task(0, (4, 6, 7)), Task(0, (8, 9)))
    assert left.pending == {0: 5}

    commit(run, (4, 6, 7, 8, 9))
    left = remaining(run.folder, 4)
    assert left.tasks == ()
    assert left.pending == {0: 0}, "the part waits only to be written"

    finish_part(run.folder, run.plan, 0)
    left = remaining(run.folder, 4)
    assert left.pending == {}
    assert left.ledger == Ledger(10, accepted=9, failed=1)


def test_remaining_counts_a_row_that_two_sessions_committed_once(tmp_path):
    rows = [{"source_uri": f"{i}.png", "instruction": "x"} for i in range(4)]
    run = planned_run(toy_plan(), table_of(rows), tmp_path)
    commit(run, (0, 1))
    commit(run, (1, 2))
    left = remaining(run.folder, 4)
    assert left.ledger == Ledger(4, accepted=3)
    assert left.tasks == (Task(0, (3,)),)


def test_remaining_over_several_parts_takes_each_in_turn(tmp_path):
    rows = [{"source_uri": f"{i}.png", "instruction": "x"} for i in range(5000)]
    run = planned_run(toy_plan(), table_of(rows), tmp_path)
    left = remaining(run.folder, 64)
    assert left.pending == {0: 4096, 1: 904}
    assert sum(len(task.rows) for task in left.tasks) == 5000
    assert {task.part for task in left.tasks} == {0, 1}
    keys = [row["key"] for row in plan_rows(run.folder)]
    places = [task.part * 4096 + place for task in left.tasks for place in task.rows]
    assert [keys[place] for place in places] == keys
