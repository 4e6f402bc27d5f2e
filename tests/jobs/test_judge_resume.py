"""A run whose judge is asked over HTTP, killed in the middle: nothing is asked twice."""

import json
import signal
import subprocess
import sys

import pytest
from moody_endpoint import Act, MoodyServer, says, words_of
from overpaint.jobs.cli import main
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from toy_runs import write_sources

NUM_ROWS = 9
KILLED_AT = 5
GOOD = '{"accuracy": 9, "preservation": 8, "quality": 7, "realism": 6}'
RECIPE = """
[[stage]]
operator = "negative"
[[stage]]
operator = "judge"
endpoint = "{url}"
request = {{ model = "m" }}
batch_size = 3
max_concurrency = 1
reply_cache = "{cache}"
[limits]
task_rows = 3
"""


@pytest.fixture
def place(tmp_path):
    names = write_sources(tmp_path / "input", NUM_ROWS)
    lines = [
        json.dumps({"source_uri": name, "instruction": f"make it {place}"})
        for place, name in enumerate(names)
    ]
    (tmp_path / "input" / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def _arguments(place):
    given = ["--input", str(place / "input" / "rows.jsonl"), "--output", str(place / "run")]
    return ["run", str(place / "recipe.toml"), *given, "--no-ray"]


@pytest.mark.slow
def test_killed_run_goes_on_and_asks_nothing_twice(place, capsys):
    started = []

    def act(number, _):
        if number == KILLED_AT:
            started[0].send_signal(signal.SIGKILL)
            return Act(hang_up=True)
        return says(GOOD)

    server = MoodyServer(act)
    try:
        recipe = RECIPE.format(url=server.url, cache=place / "replies")
        (place / "recipe.toml").write_text(recipe)
        command = [sys.executable, "-m", "overpaint.jobs.cli", *_arguments(place)]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        assert started[0].wait(timeout=120) == -signal.SIGKILL
        assert len(server.asked) == KILLED_AT
        assert main(_arguments(place)) == 0
        asked = [words_of(each) for each in server.asked]
        assert len(set(asked)) == NUM_ROWS
        assert len(asked) == NUM_ROWS + 1, "only the question that was never answered is repeated"
        rows = list(RunFolder(Storage(str(place / "run"))).rows())
        assert [row["lmm_status"] for row in rows] == ["ok"] * NUM_ROWS
        assert main(_arguments(place)) == 0
        assert len(server.asked) == NUM_ROWS + 1
    finally:
        server.close()
    capsys.readouterr()
