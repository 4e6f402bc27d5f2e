"""A small input with every kind of trouble, and what an undisturbed run makes of it."""

from pathlib import Path

import pytest
from overpaint.cluster.worker.in_process import run_local
from overpaint.pipeline.runs.tasks import remaining
from toy_runs import finish, outputs, planned_run, table_of, toy_plan, write_sources

TROUBLE = {3: "raise", 8: "exit", 11: "reject", 14: "lie", 17: "mistype", 20: "unsized"}


@pytest.fixture(scope="session")
def troubled(tmp_path_factory):
    """24 rows over 10 sources: six make trouble, one source is missing and one is broken."""
    folder: Path = tmp_path_factory.mktemp("troubled")
    names = write_sources(folder, 10)
    (folder / names[9]).write_bytes((folder / names[9]).read_bytes()[:60])
    names[6] = "missing.png"
    rows = [
        {"source_uri": names[index // 5 * 2 + index % 2], "instruction": f"paint {index}"}
        for index in range(24)
    ]
    for index, trouble in TROUBLE.items():
        rows[index]["instruction"] = trouble
    return table_of(rows, folder)


@pytest.fixture(scope="session")
def undisturbed(troubled, tmp_path_factory):
    """The outputs of a run of one group in this process."""
    run = planned_run(toy_plan(), troubled, tmp_path_factory.mktemp("undisturbed"))
    list(run_local(run, remaining(run.folder, run.plan.task_rows).tasks))
    finish(run)
    return outputs(run.run_uri)
