"""The same bytes on Ray as in one process, whatever happens on the way."""

import json
import os
import pickle
import subprocess
import sys

import pytest
from overpaint.cluster.ray.stream import run_on_ray
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.runs.tasks import remaining
from overpaint.pipeline.stage import Stage
from toy_operators import ToyAbsent
from toy_runs import (
    ONE_GROUP,
    TWO_GROUPS,
    finish,
    manifest_rows,
    outputs,
    planned_run,
    table_of,
    toy_plan,
    write_sources,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def places(actors):
    """Both groups with so many actors; half a CPU each, so that four fit beside the stream."""
    placement = {"num_cpus": 0.5, "actors": [actors, actors]}
    return {"read": placement, "edit": placement}


def on_ray(run):
    tables = list(run_on_ray(run, remaining(run.folder, run.plan.task_rows).tasks))
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("layout", "fields"),
    [
        (ONE_GROUP, {"groups": {"all": {"num_cpus": 0.5, "actors": [1, 2]}}}),
        (TWO_GROUPS, {"groups": places(1)}),
        (TWO_GROUPS, {"groups": places(2)}),
    ],
    ids=["one group", "two groups, one actor each", "two groups, two actors each"],
)
def test_ray_gives_the_bytes_of_a_local_run(troubled, undisturbed, tmp_path, layout, fields):
    run = planned_run(toy_plan(layout, **fields), troubled, tmp_path)
    summaries = on_ray(run)
    assert sum(s["accepted"] + s["rejected"] + s["failed"] for s in summaries) == 24
    finish(run)
    assert outputs(run.run_uri) == undisturbed
    for summary in summaries:
        assert set(json.loads(summary["stats_json"])["seconds"]) == {
            s.name for s in run.plan.stages
        }


def test_ray_gives_the_same_bytes_on_s3(troubled, undisturbed, s3):
    run = planned_run(toy_plan(), troubled, s3)
    on_ray(run)
    finish(run)
    assert outputs(s3) == undisturbed


def test_ray_with_nothing_to_do_starts_nothing(troubled, tmp_path):
    run = planned_run(toy_plan(), troubled, tmp_path)
    assert list(run_on_ray(run, ())) == []


KILLED_DRIVER = """
import os, signal, sys, pickle
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.runs.tasks import remaining

run = pickle.load(sys.stdin.buffer)
for done, _ in enumerate(run_local(run, remaining(run.folder, run.plan.task_rows).tasks), 1):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_ray_goes_on_where_a_killed_driver_stopped(troubled, undisturbed, tmp_path):
    run = planned_run(toy_plan(TWO_GROUPS, groups=places(1)), troubled, tmp_path)
    before = remaining(run.folder, run.plan.task_rows)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_DRIVER]
    subprocess.run(command, input=pickle.dumps(run), env=environment, check=False)
    left = remaining(run.folder, run.plan.task_rows)
    # The driver saw three end; two more may have been under way, and one of them have ended.
    assert 3 <= len(run.folder.results(0)) <= 5
    assert set(left.tasks) < set(before.tasks)
    summaries = on_ray(run)
    assert len(summaries) == len(left.tasks)
    finish(run)
    assert outputs(run.run_uri) == undisturbed


def test_ray_stream_that_is_left_early_keeps_what_was_committed(troubled, undisturbed, tmp_path):
    run = planned_run(toy_plan(), troubled, tmp_path)
    tasks = remaining(run.folder, run.plan.task_rows).tasks
    stream = run_on_ray(run, tasks)
    next(stream)
    stream.close()
    left = remaining(run.folder, run.plan.task_rows)
    assert 0 < len(run.folder.results(0)) <= len(tasks)
    list(run_local(run, left.tasks))
    finish(run)
    assert outputs(run.run_uri) == undisturbed


def test_ray_rows_that_kill_their_worker_fail_alone(tmp_path):
    names = write_sources(tmp_path / "in", 6)
    rows = [{"source_uri": name, "instruction": "x"} for name in names]
    rows[2]["instruction"] = rows[4]["instruction"] = rows[5]["instruction"] = "kill"
    given = table_of(rows, tmp_path / "in")
    run = planned_run(toy_plan(task_rows=3, limits={"max_attempts": 1}), given, tmp_path / "run")
    on_ray(run)
    finish(run)
    ended = [(row["status"], row["error_code"]) for row in manifest_rows(run.folder)]
    well, badly = ("accepted", None), ("failed", "worker_died")
    assert ended == [well, well, badly, well, badly, badly]


def test_ray_model_that_cannot_be_loaded_stops_the_run_with_its_reason(troubled, tmp_path):
    plan = toy_plan()
    stages = [Stage(operator=ToyAbsent(), name="edit", group="all"), *plan.stages[4:]]
    plan = plan.model_copy(update={"stages": (*plan.stages[:3], *stages)})
    run = planned_run(plan, troubled, tmp_path)
    with pytest.raises(StoppedError, match=r"^stage 'edit': its model cannot be loaded: OSError"):
        on_ray(run)
