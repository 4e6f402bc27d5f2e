"""Arguments that a user gets wrong, at every command: one sentence, exit code 2, no harm."""

import importlib.util
import os
import subprocess
import sys
import tempfile

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from toy_runs import write_sources

RECIPE = '[[stage]]\noperator = "negative"\n'
NOT_TEXT = b"caf\xe9".decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A recipe, an input, a policy and a finished run."""
    folder = tmp_path_factory.mktemp("drawn")
    write_sources(folder / "input", 2)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "policy.toml").write_text("")
    assert main(["run", *_given(folder), "--output", str(folder / "run"), "--no-ray"]) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with what a user may name by mistake."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").write_text("years of work")
    (home / "folder").mkdir()
    (home / "loop").symlink_to("loop")
    monkeypatch.chdir(home)
    traces = tmp_path / "traces"
    traces.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(traces))
    yield home
    assert not list(traces.glob("overpaint-fault-*"))  # no fault of Overpaint


def _given(drawn):
    return [str(drawn / "recipe.toml"), "--input", str(drawn / "input")]


def _key(drawn):
    return pq.read_table(drawn / "run" / "manifest", columns=["key"])["key"][0].as_py()


def _tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def refused(arguments, capsys):
    """Returns the one sentence with which a command is refused."""
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr()
    assert code == 2, said
    assert said.out == ""
    assert said.err.startswith("overpaint: ")
    assert said.err.count("\n") == 1, said.err
    return said.err


READERS = {
    "status": lambda drawn, uri: ["status", uri],
    "status --watch": lambda drawn, uri: ["status", uri, "--json", "--watch"],
    "verify": lambda drawn, uri: ["verify", uri],
    "verify --repair": lambda drawn, uri: ["verify", uri, "--repair"],
    "report": lambda drawn, uri: ["report", uri],
    "redrive": lambda drawn, uri: ["redrive", uri, "--no-ray"],
    "redrive on Ray": lambda drawn, uri: ["redrive", uri],
    "accept": lambda drawn, uri: ["accept", uri, "--policy", str(drawn / "policy.toml")],
    "replay": lambda drawn, uri: ["replay", uri, _key(drawn)],
}
WRITERS = {
    "run": lambda drawn, uri: ["run", *_given(drawn), "--output", uri, "--no-ray"],
    "run on Ray": lambda drawn, uri: ["run", *_given(drawn), "--output", uri],
    "replay --to": lambda drawn, uri: ["replay", str(drawn / "run"), _key(drawn), "--to", uri],
}
INPUTS = {
    "plan": lambda drawn, uri: ["plan", str(drawn / "recipe.toml"), "--input", uri],
    "run": lambda drawn, uri: [
        *("run", str(drawn / "recipe.toml"), "--input", uri),
        *("--output", "output", "--no-ray"),
    ],
}
SCHEMES = {
    "unknown scheme": ("foo://bucket/run", "unknown scheme 'foo'"),
    "scheme in capitals": ("S3://bucket/run", "'s3'"),
    "scheme that wants more": ("github://run", "github://"),
    "scheme alone": ("s3://", "nothing but a scheme"),
    "empty": ("", "empty"),
    "nobody's home": ("~nobody-of-that-name/run", "nobody-of-that-name"),
    "not text": (NOT_TEXT, "not UTF-8"),
    "a link to itself": ("loop", "loop"),
    "a name that is too long": ("x" * 300, "too long"),
}
NO_FOLDERS = {
    "a file": ("file", "a file is there"),
    "below a file": ("file/run", "/home/file is a file"),
    "far below a file": ("file/a/b/run", "/home/file is a file"),
}
NO_RUNS = {
    "a folder that is no run": ("folder", "no run there"),
    "no such folder": ("nowhere", "no run there"),
    "no such folder in one": ("nowhere/at/all", "no run there"),
    "a store of this process": ("memory://nowhere", "no run there"),
}


def crossed(commands, *arguments):
    return [
        pytest.param(command, uri, word, id=f"{name}: {what}")
        for name, command in commands.items()
        for one in arguments
        for what, (uri, word) in one.items()
    ]


@pytest.mark.parametrize(
    ("command", "uri", "word"),
    [
        *crossed(READERS, SCHEMES, NO_FOLDERS, NO_RUNS),
        *crossed(WRITERS, SCHEMES, NO_FOLDERS),
        *crossed(INPUTS, {name: SCHEMES[name] for name in list(SCHEMES)[:7]}),
    ],
)
def test_wrong_place_is_one_sentence_and_nothing_is_touched(
    command, uri, word, drawn, place, capsys
):
    before = _tree(place), _tree(drawn)
    assert word in refused(command(drawn, uri), capsys)
    assert (_tree(place), _tree(drawn)) == before


@pytest.mark.parametrize(
    ("uri", "module", "package"),
    [
        ("gs://bucket/run", "gcsfs", "gcsfs"),
        ("az://bucket/run", "adlfs", "adlfs"),
        ("sftp://host/run", "paramiko", "paramiko"),
    ],
)
@pytest.mark.parametrize("name", ["plan", "run --output", *READERS])
def test_scheme_whose_package_is_missing_names_the_package(
    name, uri, module, package, drawn, place, capsys
):
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    command = {**READERS, "plan": INPUTS["plan"], "run --output": WRITERS["run"]}[name]
    assert package in refused(command(drawn, uri), capsys)


@pytest.mark.parametrize("uri", ["foo://bucket/run", "", "s3://", NOT_TEXT])
@pytest.mark.parametrize("option", ["--input", "--output"])
def test_job_with_a_wrong_place_is_not_sent(option, uri, drawn, place, capsys):
    given = {"--input": str(drawn / "input"), "--output": str(place / "run"), option: uri}
    options = [word for pair in given.items() for word in pair]
    command = ["submit", str(drawn / "recipe.toml"), *options, "--address", "http://127.0.0.1:1"]
    assert "127.0.0.1" not in refused(command, capsys)


NEW_FILES = {
    "bench --json": lambda drawn, path: ["bench", "planning", "--json", path],
    "bench faults --json": lambda drawn, path: ["bench", "faults", "--json", path],
    "report --sheet": lambda drawn, path: ["report", str(drawn / "run"), "--sheet", path],
    "papercut --sheet": lambda drawn, path: ["papercut", "d", "--rows", "1", "--sheet", path],
}
NO_FILES = {
    "a folder": ("folder", "a folder is there"),
    "in no folder": ("nowhere/x.png", "there is no folder nowhere"),
    "below a file": ("file/x.png", "a file is there"),
}
NEW_FOLDERS = {
    "papercut": lambda drawn, path: ["papercut", path, "--rows", "1"],
    "train --out": lambda drawn, path: ["train", "vae", "--out", path],
    "train --state": lambda drawn, path: ["train", "vae", "--state", path],
    "bench --sheets": lambda drawn, path: ["bench", "checkpoints", "--sheets", path],
}


@pytest.mark.parametrize(
    ("command", "path", "word"),
    [*crossed(NEW_FILES, NO_FILES), *crossed(NEW_FOLDERS, {"a file": ("file", "a file is there")})],
)
def test_file_that_cannot_be_written_is_said_before_the_work(
    command, path, word, drawn, place, capsys
):
    before = _tree(place), _tree(drawn)
    assert word in refused(command(drawn, path), capsys)
    assert (_tree(place), _tree(drawn)) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["report", "run", "--sheet", "edits.foo"], ".foo"),
        (["accept", "run", "--policy", ""], "policy"),
        (["accept", "run", "--policy", "input"], "no such policy file"),
        (["replay", "run", ""], "not the beginning of a key"),
        (["replay", "run", NOT_TEXT], "not the beginning of a key"),
        (["replay", "run", "0" * 32], "0 planned rows"),
        (["run", "", "--input", "input", "--output", "out"], "no recipe ''"),
        (["run", "recipe.toml", "--input", "input", "--output", "out", "--limit", "x"], "--limit"),
        (["papercut", "out", "--rows", "0"], "at least 1"),
        (["train", "va"], "'va'"),
        (["bench", "checkpoints", "--only", "va"], "'va'"),
        (["bench", "faults", "--fault", "kill"], "kill"),
        (["bench", "planning", "--rows", "0"], "--rows"),
        (["bench", "growth", "--rows", "8", "--rows", "-8"], "--rows"),
        (["bench", "overhead", "--rows", "8", "8"], "--rows 8 8"),
        (["bench", "checkpoints", "--folder", "input", "--only", "vae"], "no checkpoint 'vae'"),
        (["train", "vae", "--scenes", "0"], "--scenes"),
    ],
)
def test_wrong_value_is_one_sentence(arguments, word, drawn, place, monkeypatch, capsys):
    monkeypatch.chdir(drawn)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.ray
@pytest.mark.parametrize(
    ("origin", "address"),
    [
        *(("--address", address) for address in ("foo", "foo://x", "host:abc", "127.0.0.1:99999")),
        ("RAY_ADDRESS", "127.0.0.1:1"),
    ],
)
def test_address_that_leads_nowhere_is_named_with_its_origin(origin, address, drawn, tmp_path):
    given = [*_given(drawn), "--output", str(tmp_path / "run")]
    option = ["--address", address] if origin == "--address" else []
    ran = subprocess.run(
        [sys.executable, "-m", "overpaint.jobs.cli", "run", *given, *option],
        env={**os.environ, "RAY_ADDRESS": address if not option else "", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 2, ran.stderr
    assert f"no Ray cluster answers at {address} (from {origin}" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not list(tmp_path.glob("overpaint-fault-*"))


@pytest.mark.s3
@pytest.mark.parametrize(
    ("bucket", "change", "word"),
    [
        ("no-such-bucket", {}, "bucket does not exist"),
        ("Bad Bucket", {}, "Bad Bucket"),
        ("bucket", {"AWS_ENDPOINT_URL": "localhost:1"}, "Invalid endpoint: localhost:1"),
        ("bucket", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "the credentials"),
        ("bucket", {"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_store_that_cannot_serve_an_output_is_one_sentence(
    bucket, change, word, moto_s3, drawn, place, monkeypatch, capsys
):
    import s3fs

    for name, value in change.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    assert word in refused(WRITERS["run"](drawn, f"s3://{bucket}/run"), capsys)
    s3fs.S3FileSystem.clear_instance_cache()
