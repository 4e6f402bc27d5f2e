"""Whole runs that a server edits: the ledger, the probe, limits, a kill, replay and the plan."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
from edit_server import MODEL, EditServer, Reply
from overpaint.jobs.cli import main
from overpaint.jobs.recipes import load_plan
from overpaint.pipeline.identity import sha256
from toy_runs import write_sources

RECIPE = """
[[stage]]
operator = "edit"
method = "endpoint"
dialect = "{dialect}"
endpoint = "{url}"
checkpoint = "{model}"
api_key_env = "EDITOR_KEY"
resolution = 32
batch_size = 4
attempts = 2
{more}
group = "all"
[limits]
task_rows = 4
"""
KEY = "sk-secret-0123456789"
NUM_ROWS = 12
PROMPTS = [f"edit {number}" for number in range(NUM_ROWS)]
PROBES = 2
"""Requests of the probe beside those of the rows."""


class Place:
    """A folder with sources, a table and a recipe that asks a server."""

    def __init__(self, folder, server, more="") -> None:
        self.folder, self.server, self.output = folder, server, folder / "run"
        names = write_sources(folder / "input", NUM_ROWS)
        rows = [{"source_uri": n, "instruction": p} for n, p in zip(names, PROMPTS, strict=True)]
        lines = [json.dumps(row) + "\n" for row in rows]
        (folder / "input" / "rows.jsonl").write_text("".join(lines))
        recipe = RECIPE.format(dialect=server.dialect, url=server.url, model=MODEL, more=more)
        (folder / "recipe.toml").write_text(recipe)

    def command(self, *options):
        given = ["--input", str(self.folder / "input"), "--output", str(self.output), "--no-ray"]
        return ["run", str(self.folder / "recipe.toml"), *given, *options]

    def run(self, *options):
        return main(self.command(*options))

    def rows(self):
        rows = pq.read_table(self.output / "manifest").to_pylist()
        return {row["instruction"]: row for row in rows}

    def keys(self):
        rows = pq.read_table(self.output / "plan", columns=["key", "instruction"]).to_pylist()
        return {row["key"]: row["instruction"] for row in rows}

    def kept(self):
        """The prompts of the rows whose answers are kept for rows that have not ended."""
        folder = self.output / "_work" / "answers"
        keys = [path.parent.name for path in folder.glob("*/*") if not path.name.startswith(".")]
        return {self.keys()[key] for key in keys}

    def stats(self):
        return json.loads((self.output / "stats.json").read_text())

    def ended(self):
        """The prompts of the rows that have ended, in a run that has not."""
        paths = (self.output / "_work" / "results").rglob("*.parquet")
        tables = [pq.read_table(path, columns=["key"]) for path in paths]
        return {self.keys()[key] for table in tables for key in table["key"].to_pylist()}


@pytest.fixture
def place_of(tmp_path, monkeypatch) -> Iterator:
    monkeypatch.setenv("EDITOR_KEY", KEY)
    servers: list[EditServer] = []

    def make(dialect="vllm-omni", more="", **options) -> Place:
        servers.append(EditServer(dialect, api_key=KEY, **options))
        return Place(tmp_path, servers[-1], more)

    yield make
    for server in servers:
        server.close()


def test_every_row_ends_once_and_the_key_is_nowhere(place_of, capsys):
    place = place_of()
    place.server.script = {
        "edit 1": [Reply(429, {}, {"Retry-After": "0.1"}), Reply(500)],
        "edit 2": [Reply(400, {"error": {"code": "moderation_blocked"}})],
        "edit 3": [Reply(picture="cut")],
        "edit 4": [Reply(500), Reply(500)],
        "edit 5": [Reply(picture="wide")],
        "edit 6": [Reply(400, {"error": {"message": f"your key {KEY}"}})],
    }
    assert place.run() == 0
    rows = place.rows()
    codes = {prompt: row["error_code"] for prompt, row in rows.items() if row["error_code"]}
    assert codes == {
        "edit 2": "refused",
        "edit 3": "endpoint_answer_unreadable",
        "edit 4": "endpoint_unreachable",
        "edit 5": "endpoint_answer_size",
        "edit 6": "endpoint_bad_request",
    }
    assert rows["edit 2"]["status"] == "rejected"
    assert [rows[prompt]["status"] for prompt in PROMPTS].count("accepted") == 7
    success = json.loads((place.output / "_SUCCESS.json").read_text())
    assert (success["planned"], success["accepted"], success["failed"]) == (12, 7, 4)
    good = rows["edit 0"]
    assert sha256((place.output / good["edited_uri"]).read_bytes()) == good["edited_sha256"]
    assert (good["method"], good["checkpoint"]) == ("endpoint", MODEL)
    assert main(["verify", str(place.output)]) == 0
    assert not (place.output / "_work" / "answers").exists()
    assert place.stats()["notes"] == {
        "edit": {"endpoint": {"repeats": {"again": True, "beside_others": True}}}
    }
    said = capsys.readouterr()
    files = [path.read_bytes() for path in place.output.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data for data in files)
    assert KEY not in said.out + said.err


def test_probe_asks_alone_again_and_beside_others_and_no_row_twice_besides(place_of):
    place = place_of(repeats=False)
    assert place.run() == 0
    first, again = place.server.asked[:2]
    assert first.prompt == again.prompt
    times = place.server.times()
    assert times.pop(first.prompt) == 1 + PROBES
    assert set(times.values()) == {1}
    assert place.stats()["notes"] == {
        "edit": {"endpoint": {"repeats": {"again": False, "beside_others": False}}}
    }


def test_redrive_asks_for_the_failed_rows_alone(place_of):
    place = place_of(more="probe = false")
    place.server.script = {"edit 3": [Reply(picture="text")]}
    assert place.run() == 0
    assert place.rows()["edit 3"]["status"] == "failed"
    assert main(["redrive", str(place.output), "--no-ray"]) == 0
    assert place.rows()["edit 3"]["status"] == "accepted"
    times = place.server.times()
    assert times.pop("edit 3") == 2
    assert set(times.values()) == {1}


def test_run_stops_at_its_limit_and_goes_on_with_a_higher_one(place_of, capsys):
    place = place_of(more="probe = false\nmax_requests = 5")
    assert place.run() == 3
    assert "max_requests = 5" in capsys.readouterr().err
    assert len(place.server.asked) == 5
    assert place.run() == 3, "what an earlier session has spent counts"
    assert len(place.server.asked) == 5
    assert place.run("--set", "edit.max_requests=100") == 0
    assert place.server.times() == dict.fromkeys(PROMPTS, 1)
    assert {row["status"] for row in place.rows().values()} == {"accepted"}


def test_wrong_key_stops_the_run_and_the_right_one_goes_on(place_of, monkeypatch, capsys):
    place = place_of()
    monkeypatch.setenv("EDITOR_KEY", "sk-other")
    assert place.run() == 3
    said = capsys.readouterr().err
    assert "401" in said
    assert "sk-other" not in said
    monkeypatch.setenv("EDITOR_KEY", KEY)
    assert place.run() == 0
    assert {row["status"] for row in place.rows().values()} == {"accepted"}


def _wait_until(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_run_asks_for_no_answer_that_it_has_again(place_of):
    place = place_of(more="probe = false\nmax_concurrency = 4")
    # The first task ends; of the second one answer is on its way, and of the third two.
    late = {"edit 5", "edit 9", "edit 10"}
    place.server.script = {prompt: [Reply(hangs=True)] for prompt in late}
    place.server.script["edit 6"] = [Reply(400, {"error": {"code": "moderation_blocked"}})]
    command = [sys.executable, "-m", "overpaint.jobs.cli", *place.command()]
    process = subprocess.Popen(command, env={**os.environ, "EDITOR_KEY": KEY})
    _wait_until(lambda: {asked.prompt for asked in place.server.asked} == {*PROMPTS})
    _wait_until(lambda: place.ended() | place.kept() == {*PROMPTS} - late)
    assert place.ended() == {*PROMPTS[:4]}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    place.server.released.set()
    assert place.run() == 0
    assert place.server.times() == {prompt: 2 if prompt in late else 1 for prompt in PROMPTS}
    rejected = [prompt for prompt, row in place.rows().items() if row["status"] == "rejected"]
    assert rejected == ["edit 6"], "a refusal is an answer, too"
    assert main(["verify", str(place.output)]) == 0


def test_replay_compares_with_a_server_that_repeats_itself(place_of, capsys):
    place = place_of()
    assert place.run() == 0
    key = place.rows()["edit 1"]["key"]
    asked = len(place.server.asked)
    assert main(["replay", str(place.output), key]) == 0
    assert "edited image equal to the run's" in capsys.readouterr().out
    assert len(place.server.asked) == asked + 1
    assert main(["verify", str(place.output)]) == 0


def test_replay_calls_no_other_answer_of_a_server_different(place_of, capsys):
    place = place_of("openai", repeats=False)
    assert place.run() == 0
    assert main(["replay", str(place.output), place.rows()["edit 1"]["key"]]) == 0
    said = capsys.readouterr().out
    assert "cannot be compared" in said
    assert "'edit' asks a server" in said
    assert "different" not in said


def test_verify_says_that_mended_rows_will_be_other_pictures(place_of, capsys):
    place = place_of("openai", repeats=False)
    assert place.run() == 0
    (place.output / place.rows()["edit 1"]["edited_uri"]).unlink()
    capsys.readouterr()
    assert main(["verify", str(place.output)]) == 1
    assert "get other pictures: stage 'edit' asks a server" in capsys.readouterr().out


def test_shipped_recipe_is_a_plan_that_counts_requests(place_of, capsys):
    place = place_of()
    assert load_plan("edit-endpoint").unrepeatable() == ("edit",)
    assert main(["plan", "edit-endpoint", "--input", str(place.folder / "input")]) == 0
    said = capsys.readouterr().out
    assert f"network evaluations: {NUM_ROWS} requests" in said
    hosted = ["dialect=openai", "checkpoint=gpt-image-2", "api_key_env=EDITOR_KEY"]
    settings = [word for one in hosted for word in ("--set", f"edit.{one}")]
    given = ["--input", str(place.folder / "input"), *settings]
    assert main(["plan", "edit-endpoint", *given]) == 0
    assert not place.server.asked
