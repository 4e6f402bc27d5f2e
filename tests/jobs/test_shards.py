"""Runs that pack pictures into shards hold what runs of objects hold, whatever becomes of them."""

import json
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest
from export_runs import exported, files
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.run_images import RunImages
from overpaint.jobs.verify.verify import verify
from overpaint.pipeline import columns as c
from overpaint.pipeline.images import encode
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, RunFolder
from overpaint.pipeline.storage import tars
from overpaint.pipeline.storage.store import Storage
from packed_inputs import tar_bytes
from report_runs import Page
from toy_operators import ToyEdit
from toy_runs import picture, write_sources

RECIPE = """
name = "negative"
[[stage]]
operator = "fetch"
conditions = ["mask"]
group = "all"
[[stage]]
operator = "negative"
group = "all"
[limits]
task_rows = 4
"""
PACKED = "--set=output.images=shards"
NUM_ROWS, NUM_TASKS = 20, 5
NAMES = ("objects", "shards")
URIS = [*c.STORED_IMAGES.values()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A drawn input, a recipe, and undisturbed runs of both: of objects, and of shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_dataset(folder / "input", rows=NUM_ROWS, seed=5)
    (folder / "negative.toml").write_text(RECIPE)
    assert run(folder, folder / "objects") == 0
    assert run(folder, folder / "shards", PACKED) == 0
    return folder


@pytest.fixture
def output(folder, tmp_path):
    shutil.copytree(folder / "shards", tmp_path / "run")
    return tmp_path / "run"


def run(folder, output, *options):
    given = ["--input", str(folder / "input"), "--output", str(output), "--no-ray"]
    return main(["run", str(folder / "negative.toml"), *given, *options])


def pictures(output):
    """Every picture that rows name, by key and column."""
    images = RunImages(RunFolder(Storage(str(output))))
    found = {}
    for row in images._folder.rows():
        for image, uri in c.STORED_IMAGES.items():
            address = images.uri(row, image)
            found[row["key"], uri] = address and images.read(address)
    return found


def values(output):
    """Rows of the manifest, without what says where pictures lie."""
    where = {*URIS, c.STORED_SPANS.name}
    rows = RunFolder(Storage(str(output))).rows()
    return [{name: value for name, value in row.items() if name not in where} for row in rows]


def stored(output):
    """Files of pictures, by path."""
    storage = Storage(str(output))
    return {path: storage.read(path) for name in OBJECT_FOLDERS for path in storage.list(name)}


def equal(output, other):
    return pictures(output) == pictures(other) and values(output) == values(other)


def kinds(output):
    return dict(verify(RunFolder(Storage(str(output))))[1].counts)


def shard(output, number=0):
    return sorted((output / "images").rglob("*.tar"))[number]


def test_shards_hold_the_bytes_of_objects(folder):
    assert equal(folder / "shards", folder / "objects")
    assert len(stored(folder / "objects")) == 2 * NUM_ROWS
    assert len(stored(folder / "shards")) == NUM_TASKS
    assert main(["verify", str(folder / "shards")]) == 0
    made, packed = (json.loads((folder / n / "recipe.json").read_text()) for n in NAMES)
    assert made["fingerprint"] == packed["fingerprint"]
    assert "images" not in made["recipe"]["output"]


def test_manifest_says_where_a_picture_lies(folder):
    for row in pq.read_table(folder / "shards" / "manifest").to_pylist():
        spans = {span["uri"]: span for span in row["stored_spans"]}
        assert set(spans) == {row["edited_uri"], row["mask_uri"]}
        for address, span in spans.items():
            path, _, name = address.partition("#")
            with tarfile.open(folder / "shards" / path) as tar:
                assert tar.getmember(name).offset_data == span["offset"]
                assert tar.getmember(name).size == span["size"]


def test_shard_is_loaded_by_webdataset(folder):
    webdataset = pytest.importorskip("webdataset")
    given = {row["key"]: row for row in RunFolder(Storage(str(folder / "objects"))).rows()}
    found = set()
    for path in sorted((folder / "shards" / "images").rglob("*.tar")):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            row = given[sample["__key__"]]
            assert sample["edited.png"] == (folder / "objects" / row["edited_uri"]).read_bytes()
            assert sample["mask.png"] == (folder / "objects" / row["mask_uri"]).read_bytes()
            found.add(row["key"])
    assert found == set(given)


def test_shards_are_the_same_bytes_in_every_run(folder, tmp_path):
    assert run(folder, tmp_path / "again", PACKED) == 0
    assert stored(tmp_path / "again") == stored(folder / "shards")


def die_at(step, real):
    steps = iter(range(step + 1))

    def dying(*arguments):
        if next(steps, None) == step:
            raise KeyboardInterrupt
        return real(*arguments)

    return dying


@pytest.mark.parametrize("at", [5, 6, 8, 11, 14])
def test_run_that_is_killed_between_writes_goes_on(folder, tmp_path, monkeypatch, at):
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", die_at(at, Storage.write))
        assert run(folder, tmp_path / "run", PACKED) == 3
    assert "orphan" not in kinds(tmp_path / "run")
    assert run(folder, tmp_path / "run", PACKED) == 0
    assert kinds(tmp_path / "run") == {}
    assert equal(tmp_path / "run", folder / "objects")


def test_shard_that_no_row_names_goes_at_the_end(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", die_at(14, Storage.write))
        assert run(folder, tmp_path / "run", PACKED) == 3
    recipe = (folder / "negative.toml").read_text()
    (tmp_path / "three.toml").write_text(recipe.replace("task_rows = 4", "task_rows = 3"))
    before = stored(tmp_path / "run")
    given = ["--input", str(folder / "input"), "--output", str(tmp_path / "run"), "--no-ray"]
    assert main(["run", str(tmp_path / "three.toml"), *given, PACKED]) == 0
    assert kinds(tmp_path / "run") == {}
    assert before
    assert equal(tmp_path / "run", folder / "objects")


def remove_shard(output):
    shard(output).unlink()


def alter_member(output):
    data = bytearray(shard(output).read_bytes())
    with tarfile.open(shard(output)) as tar:
        member = tar.getmembers()[2]
    data[member.offset_data + member.size // 2] ^= 1
    shard(output).write_bytes(data)


def tear_shard(output):
    path = shard(output)
    path.write_bytes(path.read_bytes()[:3000])


def cut_end(output):
    path = shard(output)
    path.write_bytes(path.read_bytes().rstrip(b"\0"))


def double_shard(output):
    path = shard(output)
    path.write_bytes(path.read_bytes() * 2)


def double_member(output):
    with tarfile.open(shard(output)) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]
    shard(output).write_bytes(tar_bytes([*members, members[0]]))


def name_another_row(output):
    path = output / "manifest" / "part-00000.parquet"
    table = pq.read_table(path)
    uris = table["edited_uri"].to_pylist()
    place = table.column_names.index("edited_uri")
    changed = table.set_column(place, table.schema.field(place), [[uris[1], *uris[1:]]])
    pq.write_table(changed, path)


def leave_a_stray(output):
    stray = output / "images" / "00" / f"{'0' * 32}.tar"
    stray.parent.mkdir(exist_ok=True)
    shutil.copy(shard(output), stray)


@pytest.mark.parametrize(
    ("spoil", "found", "pending"),
    [
        (remove_shard, {"missing_object": 8}, 4),
        (alter_member, {"wrong_hash": 1}, 1),
        (tear_shard, {"broken_shard": 8}, 4),
        (cut_end, {"broken_shard": 8}, 4),
        (double_shard, {"broken_shard": 8}, 4),
        (double_member, {"broken_shard": 8}, 4),
        (name_another_row, {"bad_uri": 1}, 1),
        (leave_a_stray, {"orphan": 1}, 0),
    ],
)
def test_verify_finds_what_is_wrong_with_a_shard_and_repairs_it(
    folder, output, spoil, found, pending, capsys
):
    spoil(output)
    assert kinds(output) == found
    assert main(["verify", str(output), "--repair"]) == (3 if pending else 0)
    if pending:
        assert f"{pending} rows" in " ".join(capsys.readouterr().out.split())
        assert run(folder, output, PACKED) == 0
    assert kinds(output) == {}
    assert equal(output, folder / "objects")


def test_rows_are_replayed_accepted_and_tried_again(folder, output):
    key = next(iter(RunFolder(Storage(str(output))).rows()))["key"]
    assert main(["replay", str(output), key]) == 0
    before = stored(output)
    assert main(["accept", str(output), "--policy", "off"]) == 0
    assert main(["redrive", str(output), "--no-ray"]) == 0
    assert stored(output) == before
    assert kinds(output) == {}
    assert equal(output, folder / "objects")


def test_report_shows_the_pictures_of_shards(folder, output):
    assert main(["report", str(output)]) == 0
    packed, plain = (Page(RunFolder(Storage(str(p)))).data for p in (output, folder / "objects"))
    assert packed["thumbnails"] == plain["thumbnails"]
    assert all(packed["thumbnails"])


def without_index(monkeypatch):
    """Members are read by the places that the manifest has, by ranges alone."""
    monkeypatch.setattr(tars, "tar_members", None)


@pytest.mark.parametrize("format_", ["ip2p", "folders", "webdataset"])
def test_exports_are_those_of_a_run_of_objects(folder, tmp_path, monkeypatch, format_):
    without_index(monkeypatch)
    for name in NAMES:
        assert exported(str(folder / name), tmp_path / name, format_)["examples"] == NUM_ROWS
    packed, plain = (files(tmp_path / name) for name in NAMES)
    told = [path for path in plain if path.endswith((".json", ".md"))]  # these name the run
    assert packed.keys() == plain.keys()
    assert all(packed[path] == plain[path] for path in plain if path not in told)


@pytest.mark.parametrize("given", NAMES)
def test_chain_of_runs_starts_from_shards(folder, tmp_path, monkeypatch, given):
    (tmp_path / "next.toml").write_text('name = "next"\n[[stage]]\noperator = "negative"\n')
    without_index(monkeypatch)
    arguments = ["--input", str(folder / given), "--output", str(tmp_path / "run"), "--no-ray"]
    assert main(["run", str(tmp_path / "next.toml"), *arguments, PACKED]) == 0
    found = RunFolder(Storage(str(tmp_path / "run")))
    parents = {row["key"]: row for row in RunFolder(Storage(str(folder / given))).rows()}
    rows = list(found.rows())
    assert len(rows) == NUM_ROWS
    for row in rows:
        assert row["status"] == "accepted"
        assert row["source_sha256"] == parents[row["in_parent_key"]]["edited_sha256"]
    images = RunImages(found)
    assert all(images.open(row, "source_image") is not None for row in rows)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert all(Page(found).data["thumbnails"])


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("server", ["s3", "moto_s3"])
def test_shards_on_a_store(folder, tmp_path, server, request, monkeypatch):
    storage = Storage(f"{request.getfixturevalue(server)}/run")
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", die_at(8, Storage.write))
        assert run(folder, storage.uri, PACKED) == 3
    assert run(folder, storage.uri, PACKED) == 0
    assert main(["verify", storage.uri]) == 0
    assert equal(storage.uri, folder / "objects")
    assert len(stored(storage.uri)) == NUM_TASKS
    first, second, *_ = storage.list("images")
    storage.remove([first])
    storage.write(second, storage.read(second)[:2000])
    assert kinds(storage.uri) == {"missing_object": 8, "broken_shard": 8}
    assert main(["verify", storage.uri, "--repair"]) == 3
    assert run(folder, storage.uri, PACKED) == 0
    assert main(["verify", storage.uri]) == 0
    assert equal(storage.uri, folder / "objects")
    assert exported(storage.uri, tmp_path / "x", "ip2p")["examples"] == NUM_ROWS


def test_plan_counts_shards(folder, capsys):
    counts = []
    for options in ([], [PACKED]):
        given = ["--input", str(folder / "input"), *options]
        assert main(["plan", str(folder / "negative.toml"), *given]) == 0
        words = capsys.readouterr().out.split("store: up to ")[1].split()
        counts.append((int(words[0]), int(words[2])))
    (objects, writes), (shards, packed_writes) = counts
    assert (objects, shards) == (3 * NUM_ROWS + 2, NUM_TASKS + 2)
    assert writes - packed_writes == objects - shards


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("output.images=shard", "'objects' or 'shards'"),
        ("output.image=shards", "images"),
        ("outputs.images=shards", "output"),
    ],
)
def test_wrong_words_for_shards_are_refused(folder, tmp_path, capsys, setting, words):
    assert run(folder, tmp_path / "run", f"--set={setting}") == 2
    assert words in " ".join(capsys.readouterr().err.split())


TOYS = """
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
group = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
scale = {scale}
group = "{group}"
[limits]
task_rows = 4
[output]
images = "{images}"
"""


@pytest.fixture
def place(tmp_path):
    """A folder with sources and a table of ten rows, one of which fails and one is rejected."""
    names = write_sources(tmp_path / "input", 10)
    words = {names[3]: "reject", names[7]: "raise"}
    rows = [{"source_uri": n, "instruction": words.get(n, f"paint {n}")} for n in names]
    write_table(tmp_path, rows)
    return tmp_path


def write_table(place, rows):
    (place / "input" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def toy(place, output, *options, **fields):
    given = {"scale": 1.0, "group": "score", "images": "shards", **fields}
    (place / "toys.toml").write_text(TOYS.format(**given))
    arguments = ["--input", str(place / "input"), "--output", str(place / output), "--no-ray"]
    return main(["run", str(place / "toys.toml"), *arguments, *options])


def times(output):
    paths = (path for name in OBJECT_FOLDERS for path in (output / name).rglob("*.*"))
    return {path.name: path.stat().st_mtime_ns for path in paths}


@pytest.mark.parametrize("group", ["edit", "score"])
def test_rows_that_fail_or_are_rejected_are_as_in_a_run_of_objects(place, group):
    for images in NAMES:
        assert toy(place, images, images=images, group=group) == 0
    assert equal(place / "shards", place / "objects")
    assert kinds(place / "shards") == {}


def _refuse_to_load(operator):
    raise AssertionError("no row needs this model")


@pytest.mark.parametrize("group", ["edit", "score"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("shards", "shards"), ("objects", "shards"), ("shards", "objects")],
)
def test_update_leaves_pictures_where_they_are(place, monkeypatch, before, after, group):
    table = place / "input" / "rows.jsonl"
    write_table(place, [json.loads(line) for line in table.read_text().splitlines()][:3])
    assert toy(place, "run", images=before, group=group) == 0
    written = times(place / "run")
    assert toy(place, "run", scale=2.0, images=after, group=group) == 2
    with monkeypatch.context() as patch:
        patch.setattr(ToyEdit, "load", _refuse_to_load)
        assert toy(place, "run", "--update", scale=2.0, images=after, group=group) == 0
    assert times(place / "run") == written
    assert toy(place, "fresh", scale=2.0, images="objects", group=group) == 0
    assert equal(place / "run", place / "fresh")
    assert kinds(place / "run") == {}


def test_update_edits_what_is_new_and_removes_what_is_gone(place):
    assert toy(place, "run") == 0
    before = times(place / "run")
    rows = [json.loads(line) for line in (place / "input/rows.jsonl").read_text().splitlines()]
    (place / "input" / "new.png").write_bytes(encode(picture(77)))
    new = {"source_uri": "new.png", "instruction": "paint it new"}
    write_table(place, [*rows[5:8], new])
    assert toy(place, "run", "--update") == 0
    after = times(place / "run")
    # The first shard has no row left, the second keeps all that it had, and a new one is there.
    assert len(before.keys() & after.keys()) == 1
    assert len(after.keys() - before.keys()) == 1
    assert all(after[name] == before[name] for name in before.keys() & after.keys())
    assert toy(place, "fresh", images="objects") == 0
    assert equal(place / "run", place / "fresh")
    assert kinds(place / "run") == {}


def test_update_makes_rows_again_whose_shard_is_gone(place):
    assert toy(place, "run") == 0
    shard(place / "run").unlink()
    assert toy(place, "run", "--update", scale=2.0) == 0
    assert toy(place, "fresh", scale=2.0, images="objects") == 0
    assert equal(place / "run", place / "fresh")
    assert kinds(place / "run") == {}


@pytest.mark.slow
def test_demo_in_shards_holds_the_bytes_of_the_demo(tmp_path):
    write_dataset(tmp_path / "input", rows=4, seed=2)
    given = ["--input", str(tmp_path / "input"), "--no-ray"]
    for name, options in (("objects", []), ("shards", [PACKED])):
        command = ["run", "demo", *given, "--output", str(tmp_path / name), *options]
        assert main(command) == 0
    assert equal(tmp_path / "shards", tmp_path / "objects")
    assert all(path.endswith(".tar") for path in stored(tmp_path / "shards"))
