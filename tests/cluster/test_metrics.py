"""Metrics through Ray's own exporter, read back as Prometheus would; and logs as JSON lines."""

import json
import logging
import re
import time
import urllib.request

import pytest
from overpaint.cluster.worker import logs
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.runs.tasks import remaining
from toy_runs import planned_run, table_of, toy_plan, write_sources

_SAMPLE = re.compile(r"^ray_(overpaint_\w+?)(?:_total)?\{(.*)\} ([\d.e+-]+)$", re.MULTILINE)

NAME = "metrics"


@pytest.fixture
def run(tmp_path):
    names = write_sources(tmp_path / "input", 6)
    asked = ["raise", "reject", "paint", "paint", "paint", "paint"]
    rows = [
        {"source_uri": name, "instruction": word} for name, word in zip(names, asked, strict=True)
    ]
    return planned_run(toy_plan(name=NAME), table_of(rows, tmp_path / "input"), tmp_path / "run")


def _read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for name, labels, value in _SAMPLE.findall(text):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if pairs.get("run") != NAME:
            continue
        known = {k: pairs[k] for k in ("status", "stage", "group") if k in pairs}
        key = (name, *known.values())
        found[key] = found.get(key, 0.0) + float(value)
    return found


def _is_whole(found):
    ended = (found.get(("overpaint_rows", status)) for status in ("accepted", "rejected", "failed"))
    return None not in ended and found.get(("overpaint_tasks_pending",)) == 0.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_metrics_of_a_run_are_read_back_from_ray_s_exporter(run):
    import ray
    from overpaint.cluster.ray.stream import run_on_ray

    list(run_on_ray(run, remaining(run.folder, run.plan.task_rows).tasks))
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    found = {}
    while not _is_whole(found) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = _read(url)
    assert found["overpaint_rows", "accepted"] == 4.0
    assert found["overpaint_rows", "rejected"] == 1.0
    assert found["overpaint_rows", "failed"] == 1.0
    assert found["overpaint_tasks", "all"] == 2.0
    assert found["overpaint_stage_seconds", "edit"] > 0
    assert 0 < found["overpaint_models_busy_share", "all"] <= 1
    assert found["overpaint_tasks_pending",] == 0.0


def test_logs_name_run_task_and_rows_that_failed(run, monkeypatch, capsys):
    monkeypatch.setenv(logs.VARIABLE, "json")
    log = logging.getLogger("overpaint.worker")
    logs.turn_on()
    try:
        list(run_local(run, remaining(run.folder, run.plan.task_rows).tasks))
    finally:
        log.handlers.clear()
        log.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]
    tasks = [line for line in lines if line["event"] == "task"]
    failed = [line for line in lines if line["event"] == "row failed"]
    tasks.sort(key=lambda task: -task["num_rows"])
    assert [task["num_rows"] for task in tasks] == [4, 2]
    assert tasks[0]["by_status"] == {"failed": 1, "rejected": 1, "accepted": 2}
    assert {task["run"] for task in tasks} == {NAME}
    (row,) = failed
    assert row["key"]
    assert row["task"] == tasks[0]["task"]
    assert (row["stage"], row["error_code"]) == ("edit", "value_error")
