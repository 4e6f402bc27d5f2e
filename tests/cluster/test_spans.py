"""Spans of batches, as OpenTelemetry's own library exports them, and nothing without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk")

SUPPORT = Path(__file__).parents[1] / "support"
PROGRAM = """
import json, sys
from pathlib import Path
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.runs.tasks import remaining
from toy_runs import planned_run, table_of, toy_plan, write_sources

folder = Path(sys.argv[1])
rows = [{"source_uri": name, "instruction": "paint"} for name in write_sources(folder, 6)]
rows[4]["instruction"] = "raise"
run = planned_run(toy_plan(), table_of(rows, folder), folder / "run")
exporter = None
if sys.argv[2] == "spans":
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
list(run_local(run, remaining(run.folder, run.plan.task_rows).tasks))
found = [] if exporter is None else exporter.get_finished_spans()
spans = [
    {"name": one.name, "ns": one.end_time - one.start_time}
    | dict(one.attributes)
    for one in found
]
imported = "opentelemetry" in sys.modules
print(json.dumps({"spans": spans, "imported": imported}))
"""


def _run(folder, how):
    paths = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    environment.pop("OTEL_PYTHON_TRACER_PROVIDER", None)
    command = [sys.executable, "-c", PROGRAM, str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_batch_has_a_span_where_there_is_a_provider(tmp_path):
    spans = _run(tmp_path, "spans")["spans"]
    by_stage = {}
    for span in spans:
        assert span["name"] == f"{span['overpaint.stage']} batch"
        by_stage.setdefault(span["overpaint.stage"], []).append(span)
    assert set(by_stage) == {"fetch", "caption", "invert", "edit", "store", "score"}
    # Six rows in tasks of four, captions in batches of two: every row is in one batch.
    assert sorted(span["overpaint.rows"] for span in by_stage["caption"]) == [2, 2, 2]
    assert len({span["overpaint.task"] for span in by_stage["caption"]}) == 2
    assert sum(span["overpaint.rows"] for span in by_stage["fetch"]) == 6
    assert {span["overpaint.has_model"] for span in by_stage["caption"]} == {True}
    assert {span["overpaint.has_model"] for span in by_stage["fetch"]} == {False}
    for span in spans:
        assert 0 <= span["overpaint.model_s"] <= span["ns"] / 1e9


def test_nothing_is_imported_where_there_is_none(tmp_path):
    assert _run(tmp_path, "none") == {"spans": [], "imported": False}
