"""A run that an earlier version made: shown, verified and read, but not gone on with."""

import json

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

RECIPE = """
name = "old"
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
group = "all"
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A finished run whose record is that of an earlier version."""
    folder = tmp_path_factory.mktemp("old")
    write_dataset(folder / "drawn", rows=2, seed=1)
    (folder / "old.toml").write_text(RECIPE)
    assert main(["run", *_arguments(folder)]) == 0
    record = folder / "run/recipe.json"
    content = json.loads(record.read_text())
    del content["keys_version"]
    content["versions"]["overpaint"] = "0.1.0"
    content["recipe"]["stage"][0]["read_mask"] = False
    record.write_text(json.dumps(content))
    for part in (folder / "run/manifest").iterdir():
        pq.write_table(pq.read_table(part).drop_columns(["editable_mask_uri"]), part)
    return folder


def _arguments(folder):
    options = ("--no-ray", "--input", str(folder / "drawn"), "--output", str(folder / "run"))
    return [str(folder / "old.toml"), *options]


@pytest.mark.parametrize("command", ["status", "report", "verify"])
def test_run_of_an_earlier_version_is_shown_and_verified(command, old):
    assert main([command, str(old / "run")]) == 0


def test_run_of_an_earlier_version_is_an_input(old):
    options = ["--input", str(old / "run"), "--set", "row.target_prompt=a red circle"]
    assert main(["plan", str(old / "old.toml"), *options]) == 0


@pytest.mark.parametrize("command", ["run", "update", "redrive", "replay"])
def test_run_of_an_earlier_version_is_not_gone_on_with(command, old, capfd):
    before = {path: path.stat().st_mtime_ns for path in (old / "run").rglob("*.p*")}
    arguments = {
        "run": ["run", *_arguments(old)],
        "update": ["run", *_arguments(old), "--update"],
        "redrive": ["redrive", str(old / "run"), "--no-ray"],
        "replay": ["replay", str(old / "run"), "0"],
    }[command]
    assert main(arguments) == 2
    assert "0.1.0" in capfd.readouterr().err, "the version that made it is named"
    assert {path: path.stat().st_mtime_ns for path in (old / "run").rglob("*.p*")} == before
