"""Whole runs through the command line: the same bytes whatever happens on the way."""

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

RECIPE = """
name = "negative"
[[stage]]
operator = "negative"
batch_size = 4
batch_ms = {batch_ms}
[limits]
task_rows = 4
"""
SCORE = """
[[stage]]
operator = "score"
"""
DEADLY = """
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[limits]
max_attempts = 2
task_rows = 8
"""
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=24, seed=3)
    return folder


@pytest.fixture
def recipe(tmp_path):
    return _recipe(tmp_path, 0)


def _recipe(folder, batch_ms):
    path = folder / f"negative-{batch_ms}.toml"
    path.write_text(RECIPE.format(batch_ms=batch_ms))
    return str(path)


def _outputs(folder):
    """Every byte that equal runs share, by path."""
    kept = ("images", "masks", "manifest")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in kept
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def _rows(folder):
    return pq.read_table(folder / "manifest").to_pylist()


def _start(*arguments):
    command = [sys.executable, "-m", "overpaint.jobs.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def _wait_for_results(output, at_least):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if len(list((output / "_work" / "results").rglob("*.parquet"))) >= at_least:
            return
        time.sleep(0.02)
    raise AssertionError("the run committed nothing in 90 s")


@pytest.fixture(scope="module")
def undisturbed(drawn, tmp_path_factory):
    """The outputs of a run in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    output = folder / "run"
    given = ["--input", str(drawn), "--output", str(output), "--no-ray"]
    assert main(["run", _recipe(folder, 0), *given]) == 0
    return output


def test_run_accounts_for_every_row(undisturbed):
    rows = _rows(undisturbed)
    success = json.loads((undisturbed / "_SUCCESS.json").read_text())
    assert len({row["key"] for row in rows}) == 24
    assert {row["status"] for row in rows} == {"accepted"}
    assert success["planned"] == success["accepted"] == 24
    assert (undisturbed / "report.html").is_file()
    assert not (undisturbed / "_work").exists()
    assert main(["verify", str(undisturbed)]) == 0


@pytest.mark.ray
def test_run_on_ray_gives_the_same_bytes(undisturbed, drawn, recipe, tmp_path):
    output = tmp_path / "run"
    given = ["--input", str(drawn), "--output", str(output), "--num-cpus", "4"]
    assert main(["run", recipe, *given]) == 0
    assert _outputs(output) == _outputs(undisturbed)


@pytest.mark.ray
def test_run_with_two_actors_gives_the_same_bytes(undisturbed, drawn, tmp_path):
    path = Path(_recipe(tmp_path, 0))
    path.write_text(path.read_text() + "[group.negative]\nactors = [2, 2]\n")
    output = tmp_path / "run"
    given = ["--input", str(drawn), "--output", str(output), "--num-cpus", "4"]
    assert main(["run", str(path), *given]) == 0
    assert _outputs(output) == _outputs(undisturbed)


def test_shuffled_input_gives_the_same_keys_and_pixels(undisturbed, drawn, recipe, tmp_path):
    lines = (drawn / "rows.jsonl").read_text().splitlines()
    random.Random(0).shuffle(lines)
    shuffled = drawn / "shuffled.jsonl"
    shuffled.write_text("\n".join(lines))
    output = tmp_path / "run"
    given = ["--input", str(shuffled), "--output", str(output), "--no-ray"]
    assert main(["run", recipe, *given]) == 0
    images = {path.name: path.read_bytes() for path in (output / "images").rglob("*.png")}
    assert images == {p.name: p.read_bytes() for p in (undisturbed / "images").rglob("*.png")}


@pytest.mark.ray
@pytest.mark.s3
def test_run_to_s3_gives_the_same_bytes(undisturbed, drawn, recipe, s3, tmp_path):
    from overpaint.pipeline.storage.store import Storage

    given = ["--input", str(drawn), "--output", f"{s3}/run", "--num-cpus", "4"]
    assert main(["run", recipe, *given]) == 0
    storage = Storage(f"{s3}/run")
    stored = {p: storage.read(p) for n in ("images", "masks", "manifest") for p in storage.list(n)}
    assert stored == _outputs(undisturbed)
    assert main(["verify", f"{s3}/run"]) == 0


@pytest.mark.ray
def test_killed_driver_goes_on_by_the_same_command(drawn, tmp_path):
    recipe, output = _recipe(tmp_path, 200), tmp_path / "run"
    command = ["run", recipe, "--input", drawn, "--output", output, "--num-cpus", "4"]
    driver = _start(*command)
    _wait_for_results(output, 2)
    driver.kill()
    driver.communicate()
    committed = {path.name for path in (output / "_work" / "results").rglob("*.parquet")}
    assert 2 <= len(committed) < 6
    assert main([str(part) for part in command]) == 0
    undisturbed = tmp_path / "undisturbed"
    assert (
        main(["run", recipe, "--input", str(drawn), "--output", str(undisturbed), "--no-ray"]) == 0
    )
    assert _outputs(output) == _outputs(undisturbed)


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_stops_in_ten_seconds_and_says_how_to_go_on(drawn, tmp_path):
    recipe, output = _recipe(tmp_path, 1500), tmp_path / "run"
    command = ["run", recipe, "--input", drawn, "--output", output, "--num-cpus", "4"]
    driver = _start(*command)
    _wait_for_results(output, 1)
    start = time.monotonic()
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert driver.returncode == 3
    assert "the same command goes on" in said
    assert main([str(part) for part in command]) == 0
    assert len(_rows(output)) == 24


def test_finished_run_does_nothing_again(drawn, recipe, tmp_path):
    output = tmp_path / "run"
    command = ["run", recipe, "--input", str(drawn), "--output", str(output), "--no-ray"]
    assert main(command) == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert main(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}


def test_row_whose_image_breaks_fails_alone(drawn, recipe, tmp_path):
    given = tmp_path / "input"
    (given / "images").mkdir(parents=True)
    for path in (drawn / "images").iterdir():
        (given / "images" / path.name).write_bytes(path.read_bytes())
    first = sorted((given / "images").iterdir())[0]
    first.write_bytes(first.read_bytes()[:200])
    output = tmp_path / "run"
    assert main(["run", recipe, "--input", str(given), "--output", str(output), "--no-ray"]) == 0
    failed = [row for row in _rows(output) if row["status"] == "failed"]
    assert [(row["source_uri"], row["error_code"]) for row in failed] == [
        (f"images/{first.name}", "image_truncated")
    ]


def test_replay_gives_the_bytes_of_the_run(undisturbed, tmp_path, capsys):
    key = _rows(undisturbed)[5]["key"]
    assert main(["replay", str(undisturbed), key[:12], "--to", str(tmp_path / "row")]) == 0
    image = (undisturbed / "images" / key[:2] / f"{key}.png").read_bytes()
    assert (tmp_path / "row" / "edited_image.png").read_bytes() == image


def test_status_counts_the_rows(undisturbed, capsys):
    assert main(["status", str(undisturbed), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["planned"], found["accepted"], found["pending"], found["done"]) == (
        24,
        24,
        0,
        True,
    )


@pytest.mark.parametrize("damage", ["missing", "changed", "orphan"])
def test_verify_sees_what_is_wrong(undisturbed, drawn, recipe, tmp_path, capsys, damage):
    output = tmp_path / "run"
    assert main(["run", recipe, "--input", str(drawn), "--output", str(output), "--no-ray"]) == 0
    image = next((output / "images").rglob("*.png"))
    if damage == "missing":
        image.unlink()
    elif damage == "changed":
        image.write_bytes(b"something else")
    else:
        (output / "images" / "zz").mkdir()
        (output / "images" / "zz" / "stray.png").write_bytes(b"")
    assert main(["verify", str(output)]) == 1
    kind = {"missing": "missing_object", "changed": "wrong_hash", "orphan": "orphan"}[damage]
    assert kind in capsys.readouterr().out


def test_redrive_mends_failed_rows_alone(undisturbed, drawn, recipe, tmp_path):
    given = tmp_path / "input"
    shutil.copytree(drawn, given)
    lost = given / json.loads((given / "rows.jsonl").read_text().splitlines()[7])["source_uri"]
    kept = lost.read_bytes()
    lost.unlink()
    output = tmp_path / "run"
    assert main(["run", recipe, "--input", str(given), "--output", str(output), "--no-ray"]) == 0
    assert [row["error_code"] for row in _rows(output) if row["status"] == "failed"] == [
        "source_missing"
    ]
    before = {p: p.stat().st_mtime_ns for p in (output / "images").rglob("*.png")}
    lost.write_bytes(kept)
    assert main(["redrive", str(output), "--no-ray"]) == 0
    assert _outputs(output) == _outputs(undisturbed)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_accept_changes_the_word_and_no_pixel(drawn, recipe, tmp_path):
    output = tmp_path / "run"
    scored = tmp_path / "scored.toml"
    scored.write_text(Path(recipe).read_text() + SCORE)
    assert (
        main(["run", str(scored), "--input", str(drawn), "--output", str(output), "--no-ray"]) == 0
    )
    images = {p: p.stat().st_mtime_ns for p in (output / "images").rglob("*.png")}
    limit = statistics.median(row["change_mean"] for row in _rows(output))
    policy = tmp_path / "policy.toml"
    policy.write_text(f"change_mean = {{ max = {limit} }}\n")
    assert main(["accept", str(output), "--policy", str(policy)]) == 0
    rows = _rows(output)
    assert all((row["status"] == "accepted") == (row["change_mean"] <= limit) for row in rows)
    assert {row["status"] for row in rows} == {"accepted", "rejected"}
    assert all(bool(row["reject_reasons"]) == (row["status"] == "rejected") for row in rows)
    assert {p: p.stat().st_mtime_ns for p in images} == images


@pytest.mark.ray
def test_row_that_kills_its_worker_fails_alone(drawn, tmp_path):
    recipe, table, output = tmp_path / "deadly.toml", tmp_path / "rows.jsonl", tmp_path / "run"
    recipe.write_text(DEADLY)
    sources = [path.name for path in sorted((drawn / "images").iterdir())[:8]]
    asked = ["kill" if name == sources[3] else "paint" for name in sources]
    rows = [{"source_uri": n, "instruction": i} for n, i in zip(sources, asked, strict=True)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--input", table, "--base", drawn / "images", "--output", output, "--num-cpus", "4"]
    driver = _start("run", recipe, *given)
    _, said = driver.communicate(timeout=200)
    assert driver.returncode == 0, said
    ended = {row["source_uri"]: (row["status"], row["error_code"]) for row in _rows(output)}
    assert ended.pop(sources[3]) == ("failed", "worker_died")
    assert set(ended.values()) == {("accepted", None)}
