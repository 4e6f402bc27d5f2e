import json
import uuid
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.cluster.worker.attempts import Attempts
from overpaint.cluster.worker.group import SUMMARY, GroupWorker
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.images import Picture, reading
from overpaint.pipeline.images.latest import Latest
from overpaint.pipeline.runs.folder import image_path
from overpaint.pipeline.runs.manifest import Ledger, result_name
from overpaint.pipeline.runs.tasks import Task, remaining
from toy_runs import (
    TWO_GROUPS,
    finish,
    manifest_rows,
    outputs,
    plan_rows,
    planned_run,
    table_of,
    toy_plan,
    write_sources,
)


@pytest.fixture
def started(troubled, tmp_path):
    """Plans a run of the troubled input into a folder."""

    def start(*arguments, uri=None, **fields):
        return planned_run(toy_plan(*arguments, **fields), troubled, uri or tmp_path / "run")

    return start


def everything(run):
    """Runs what remains in this process; returns the summaries."""
    tables = list(run_local(run, remaining(run.folder, run.plan.task_rows).tasks))
    assert all(table.schema == SUMMARY for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def test_local_run_accounts_for_every_row_with_stage_and_code(started):
    run = started()
    summaries = everything(run)
    assert sum(s["accepted"] + s["rejected"] + s["failed"] for s in summaries) == 24
    finish(run)
    rows = manifest_rows(run.folder)
    assert [row["key"] for row in rows] == [row["key"] for row in plan_rows(run.folder)]
    ended = {row["instruction"]: row for row in rows}
    expected = {
        "raise": ("failed", "edit", "value_error"),
        "exit": ("failed", "edit", "system_exit"),
        "reject": ("rejected", "edit", "nothing_to_do"),
        "lie": ("failed", "edit", "bad_answer"),
        "mistype": ("failed", "edit", "bad_answer"),
        "unsized": ("failed", "edit", "value_error"),
    }
    found = {name: ended[name] for name in expected}
    assert {
        name: (row["status"], row["stage"], row["error_code"]) for name, row in found.items()
    } == expected
    missing = [row for row in rows if row["source_uri"] == "missing.png"]
    assert {row["error_code"] for row in missing} == {"source_missing"}
    broken = [row for row in rows if row["source_uri"] == "source-009.png"]
    assert {row["error_code"] for row in broken} <= {"image_truncated", "image_unreadable"}
    rest = [row for row in rows if row["status"] == "accepted"]
    assert len(rest) == 24 - len(expected) - len(missing) - len(broken)
    for row in rest:
        assert run.folder.storage.exists(row["edited_uri"])
        assert row["caption"].startswith("mostly")
        assert 0 < row["brightness"] < 1
        assert row["error_code"] is row["error_message"] is row["stage"] is None


def test_local_run_in_two_groups_gives_the_same_bytes(started, undisturbed):
    run = started(TWO_GROUPS)
    everything(run)
    finish(run)
    assert outputs(run.run_uri) == undisturbed


@pytest.mark.parametrize("task_rows", [1, 7, 64])
def test_local_run_in_tasks_of_any_size_gives_the_same_bytes(started, undisturbed, task_rows):
    run = started(TWO_GROUPS, task_rows=task_rows)
    everything(run)
    finish(run)
    assert outputs(run.run_uri) == undisturbed


def test_local_run_on_s3_gives_the_same_bytes(started, undisturbed, s3):
    run = started(uri=s3)
    everything(run)
    finish(run)
    assert outputs(s3) == undisturbed


def test_group_hands_on_what_later_groups_read_and_no_live_object(started):
    run = started(TWO_GROUPS)
    reader, editor = (GroupWorker(run, group) for group in run.plan.group_names)
    table = reader.start(Task(0, (0, 1, 2, 3)))
    assert set(table.column_names) == {
        *("key", "source_sha256", "width_px", "height_px", "caption"),  # for the manifest
        *("source_image", "instruction", "seed"),  # for the stages to come
        *("mask_image", "editable_mask_image"),  # which `store` writes where a plan has them
        *("status", "stage", "error_code", "error_message"),
        *("part", "stats_json"),
    }
    (summary,) = editor.proceed(table).to_pylist()
    assert set(json.loads(summary["stats_json"])["seconds"]) == {
        stage.name for stage in run.plan.stages
    }


def test_group_commits_a_task_under_the_name_of_its_rows(started):
    run = started()
    GroupWorker(run, "all").start(Task(0, (0, 1, 2)))
    keys = [row["key"] for row in plan_rows(run.folder)[:3]]
    (path,) = run.folder.results(0)
    assert path == f"_work/results/part-00000/{result_name(keys)}.parquet"
    stored = pq.read_table(f"{run.run_uri}/{path}")
    assert stored["key"].to_pylist() == keys
    assert "edited_image" not in stored.column_names


def test_group_summary_counts_rows_as_the_policy_will(tmp_path):
    names = write_sources(tmp_path / "in", 4)
    given = table_of([{"source_uri": name, "instruction": "x"} for name in names], tmp_path / "in")
    plan = toy_plan(policy={"brightness": {"min": 2}})
    run = planned_run(plan, given, tmp_path / "run")
    (summary,) = everything(run)
    assert (summary["accepted"], summary["rejected"]) == (0, 4)
    assert remaining(run.folder, 4).ledger == Ledger(4, rejected=4)
    finish(run)
    assert {tuple(row["reject_reasons"]) for row in manifest_rows(run.folder)} == {
        ("brightness < 2",)
    }


def test_group_decodes_each_source_once_and_then_lets_it_go_first(tmp_path, monkeypatch):
    names = write_sources(tmp_path / "in", 24)
    given = table_of([{"source_uri": name, "instruction": "x"} for name in names], tmp_path / "in")
    sources = {(tmp_path / "in" / name).read_bytes() for name in names}
    decoded: list[bytes] = []
    decode = reading._decode

    def noted(data, max_pixels):
        decoded.append(data)
        return decode(data, max_pixels)

    monkeypatch.setattr(reading, "_decode", noted)
    monkeypatch.setattr(reading, "_LATEST", Latest(2**24))
    reading._LATEST.put(b"one of before", Picture(np.zeros((4, 4, 3), np.uint8)))
    everything(planned_run(toy_plan(), given, tmp_path / "run"))
    assert Counter(data for data in decoded if data in sources) == dict.fromkeys(sources, 1)
    order = list(reading._LATEST._pictures)
    assert set(order[:-1]) == set(decoded)
    assert order[-1] == b"one of before"


def left_behind(run, *entries):
    """A journal of a worker process that died with these entries under way."""
    path = f"_work/attempts/all/{uuid.uuid4().hex}.json"
    run.folder.storage.write(path, json.dumps(entries).encode())


@pytest.mark.parametrize("num_crashes", [1, 2])
def test_group_after_lost_attempts_gives_the_same_bytes(started, undisturbed, num_crashes):
    run = started()
    tasks = remaining(run.folder, run.plan.task_rows).tasks
    keys = [row["key"] for row in plan_rows(run.folder)]
    for task in tasks:
        entry = f"task-{result_name([keys[place] for place in task.rows])}"
        for _ in range(num_crashes):
            left_behind(run, entry)
    everything(run)
    finish(run)
    assert outputs(run.run_uri) == undisturbed


def test_group_task_that_lost_its_worker_has_no_other_beside_it(started, monkeypatch):
    run = started()
    keys = [row["key"] for row in plan_rows(run.folder)]
    for task in remaining(run.folder, run.plan.task_rows).tasks:
        left_behind(run, f"task-{result_name([keys[place] for place in task.rows])}")
    beside: list[int] = []
    of_task = Attempts.of_task

    @contextmanager
    def noted(attempts, keys, num_rows):
        with of_task(attempts, keys, num_rows):
            beside.append(num_rows - len(keys))
            yield

    monkeypatch.setattr(Attempts, "of_task", noted)
    everything(run)
    # The time limit of a task counts the rows of all tasks that are beside it.
    assert set(beside) == {0}


def test_group_row_that_was_alone_in_its_worker_too_often_fails(started, undisturbed):
    run = started(limits={"max_attempts": 2})
    (task, *_) = remaining(run.folder, run.plan.task_rows).tasks
    rows = plan_rows(run.folder)
    keys = [rows[place]["key"] for place in task.rows]
    for _ in range(2):
        left_behind(run, f"task-{result_name(keys)}", f"row-{keys[1]}")
    storage = run.folder.storage
    storage.write(image_path(keys[1], "png"), b"what it stored before its worker died")
    everything(run)
    finish(run)
    row = manifest_rows(run.folder)[1]
    assert (row["status"], row["error_code"]) == ("failed", "worker_died")
    assert "2 times" in row["error_message"]
    others = {path: data for path, data in undisturbed.items() if path.endswith(".png")}
    found = {path: data for path, data in outputs(run.run_uri).items() if path.endswith(".png")}
    assert found == {path: data for path, data in others.items() if keys[1] not in path}
