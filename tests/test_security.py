"""Attacks by a hostile table, a hostile checkpoint or a curious reader, and their outcome.

SECURITY.md has the table of attacks; what concerns one module alone is tested beside that module.
"""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.pipeline.storage.store import Storage

NEGATIVE = """
[[stage]]
operator = "negative"
"""
WEB = """
[[stage]]
operator = "fetch"
allow_http = true
timeout_s = 5
attempts = 1
"""
SCRIPT = '<script>alert("owned")</script><img src=x onerror=alert(1)>'
METADATA_HOSTS = (
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://127.0.0.1:1/",
    "http://localhost:1/",
    "http://10.0.0.1/",
)
OUTSIDE = (
    "file:///etc/passwd",
    "/etc/passwd",
    "../../../../../../../../etc/passwd",
    "images/../../../../../../../../etc/passwd",
)


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "input", rows=3, seed=2)
    return tmp_path


def _run(folder, rows, recipe=NEGATIVE):
    """Runs a recipe over a table of rows; returns the manifest's rows by source."""
    table = folder / "input" / "hostile.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.toml"
    path.write_text(recipe)
    given = ["--input", str(table), "--output", str(folder / "run"), "--no-ray"]
    assert main(["run", str(path), *given]) == 0
    return {r["source_uri"]: r for r in pq.read_table(folder / "run" / "manifest").to_pylist()}


def _sources(folder):
    return [f"images/{path.name}" for path in sorted((folder / "input" / "images").iterdir())]


def _texts(run_folder: Path):
    """Yields all that a run wrote but pixels, as text; Parquet is read, since it is packed."""
    for path in run_folder.rglob("*"):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield f"{table.schema} {table.to_pylist()}"
        elif path.suffix in (".json", ".html"):
            yield path.read_text()


@pytest.mark.parametrize("uri", OUTSIDE)
def test_table_reads_no_file_outside_its_folder(folder, uri):
    rows = _run(folder, [{"source_uri": uri}, {"source_uri": _sources(folder)[0]}])
    assert rows[uri]["error_code"] == "source_forbidden"
    assert rows[_sources(folder)[0]]["status"] == "accepted"
    assert not any("root:" in text for text in _texts(folder / "run"))


@pytest.mark.parametrize("uri", METADATA_HOSTS)
def test_table_reaches_no_private_address_even_where_the_web_is_allowed(folder, uri):
    rows = _run(folder, [{"source_uri": uri}], WEB + NEGATIVE)
    assert rows[uri]["error_code"] == "source_forbidden"


def test_table_reaches_no_web_where_it_is_not_allowed(folder):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"
        rows = _run(folder, [{"source_uri": uri}])
        assert rows[uri]["error_code"] == "source_forbidden"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called, in planning either
            listening.accept()


def test_names_in_a_table_cannot_choose_where_is_written(folder):
    row = {
        "source_uri": _sources(folder)[0],
        "key": "../../../escaped",
        "edited_uri": "../../escaped.png",
        "group_id": "../escaped",
    }
    before = set(folder.rglob("*"))
    rows = _run(folder, [row])
    written = set(folder.rglob("*")) - before
    allowed = (folder / "run", folder / "recipe.toml", folder / "input" / "hostile.jsonl")
    assert all(any(path.is_relative_to(root) for root in allowed) for path in written)
    found = rows[_sources(folder)[0]]
    assert len(found["key"]) == 32
    assert found["in_edited_uri"] == "../../escaped.png"
    assert main(["verify", str(folder / "run")]) == 0


def test_html_of_a_table_is_text_in_the_report(folder):
    source = _sources(folder)[0]
    missing = f"images/{SCRIPT}.png"
    _run(folder, [{"source_uri": source, "instruction": SCRIPT}, {"source_uri": missing}])
    report = (folder / "run" / "report.html").read_text()
    assert "owned" in report
    assert '<script>alert("owned")' not in report
    assert "<img src=x" not in report


class Opener:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("name", ["ray.data.arrow_tensor", "ray.data.arrow_pickled_object"])
def test_pickle_in_the_metadata_of_parquet_is_never_opened(folder, name):
    opened = folder / "opened"
    extension = {
        "ARROW:extension:name": name,
        "ARROW:extension:metadata": pickle.dumps(Opener(opened)),
    }
    field = pa.field("payload", pa.binary(), metadata=extension)
    schema = pa.schema([pa.field("source_uri", pa.string()), field])
    table = pa.table([[_sources(folder)[0]], [pickle.dumps(Opener(opened))]], schema=schema)
    pq.write_table(table, folder / "input" / "hostile.parquet")
    (folder / "recipe.toml").write_text(NEGATIVE)
    given = ["--input", str(folder / "input" / "hostile.parquet"), "--output", str(folder / "run")]
    command = [sys.executable, "-m", "overpaint.jobs.cli", "run", str(folder / "recipe.toml")]
    # In a process of its own, where Ray has taught Arrow its types before the table is read.
    ran = subprocess.run([*command, *given, "--no-ray"], capture_output=True, timeout=100)
    assert ran.returncode == 2, ran.stderr
    assert b"ray.data." in ran.stderr
    assert not opened.exists()


def test_pickled_weights_are_refused(folder):
    weights = folder / "weights"
    weights.mkdir()
    (weights / "config.json").write_text('{"model_type": "clip"}')
    (weights / "pytorch_model.bin").write_bytes(pickle.dumps(Opener(folder / "opened")))
    (folder / "recipe.toml").write_text(
        f'{NEGATIVE}[[stage]]\noperator = "score"\ncheckpoint = "{weights}"\n'
    )
    given = ["--input", str(folder / "input"), "--output", str(folder / "run"), "--no-ray"]
    assert main(["run", str(folder / "recipe.toml"), *given]) == 2
    assert not (folder / "opened").exists()
    assert not (folder / "run").exists()


@pytest.mark.s3
def test_secrets_are_in_no_file_and_in_no_word(folder, s3, tmp_path):
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    (folder / "recipe.toml").write_text(NEGATIVE)
    missing = '{"source_uri": "s3://no-such-bucket/a.png"}\n'
    table = folder / "input" / "rows.jsonl"
    table.write_text(table.read_text() + missing)
    given = ["--input", str(folder / "input"), "--output", f"{s3}/run", "--no-ray"]
    command = [
        sys.executable,
        "-m",
        "overpaint.jobs.cli",
        "run",
        str(folder / "recipe.toml"),
        *given,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    storage = Storage(f"{s3}/run")
    for path in storage.list():
        local = tmp_path / "copy" / path
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(storage.read(path))
    said = [ran.stdout, ran.stderr, *_texts(tmp_path / "copy")]
    assert len(said) > 5
    assert not any(secret in text for text in said)
