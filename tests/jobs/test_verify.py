"""verify names whatever is wrong with a run; --repair and the run's own command make it whole."""

import json
import shutil
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.verify.verify import verify
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.runs import planning
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

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


@pytest.fixture(scope="module", autouse=True)
def _small_parts():
    """Twenty rows in parts of eight: three parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "PART_ROWS", 8)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A drawn input, a recipe, and an undisturbed run of both."""
    folder = tmp_path_factory.mktemp("verify")
    write_dataset(folder / "input", rows=20, seed=5)
    (folder / "negative.toml").write_text(RECIPE)
    assert run(folder, folder / "undisturbed") == 0
    return folder


@pytest.fixture
def output(folder, tmp_path):
    shutil.copytree(folder / "undisturbed", tmp_path / "run")
    return tmp_path / "run"


def run(folder, output):
    given = ["--input", str(folder / "input"), "--output", str(output), "--no-ray"]
    return main(["run", str(folder / "negative.toml"), *given])


def outputs(folder):
    """Every byte that equal runs share, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("plan", "images", "masks", "manifest")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def kinds(output):
    return dict(verify(RunFolder(Storage(str(output))))[1].counts)


def manifest(output, part=1):
    return output / "manifest" / f"part-{part:05d}.parquet"


def rewritten(path, change):
    rows = pq.read_table(path)
    pq.write_table(change(rows), path)


def first(output, name):
    return next(path for path in sorted((output / name).rglob("*")) if path.is_file())


def edited_rows(output):
    return [
        row for path in (output / "manifest").iterdir() for row in pq.read_table(path).to_pylist()
    ]


def with_value(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, pa.string()))


def unlink_image(output):
    first(output, "images").unlink()


def unlink_mask(output):
    first(output, "masks").unlink()


def spoil_image(output):
    path = first(output, "images")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def spoil_mask(output):
    first(output, "masks").write_bytes(b"something else")


def add_orphans(output):
    (output / "images" / "zz").mkdir()
    (output / "images" / "zz" / "stray.png").write_bytes(b"")
    (output / "images" / "stray.png").write_bytes(b"")
    (output / "editable").mkdir()
    (output / "editable" / "stray.png").write_bytes(b"")
    image = first(output, "images")
    image.with_suffix(".jpg").write_bytes(image.read_bytes())


def unlink_part(output):
    manifest(output).unlink()


def spoil_part(output):
    manifest(output).write_bytes(manifest(output).read_bytes()[:100])


def add_part(output):
    shutil.copy(manifest(output), manifest(output, 7))


def double_row(output):
    rewritten(manifest(output), lambda rows: pa.concat_tables([rows, rows.slice(2, 1)]))


def drop_row(output):
    rewritten(manifest(output), lambda rows: pa.concat_tables([rows.slice(0, 2), rows.slice(3)]))


def turn_rows(output):
    rewritten(manifest(output), lambda rows: rows.take(list(range(rows.num_rows))[::-1]))


def swap_rows_of_parts(output):
    one, two = pq.read_table(manifest(output, 0)), pq.read_table(manifest(output, 1))
    pq.write_table(pa.concat_tables([two.slice(0, 1), one.slice(1)]), manifest(output, 0))
    pq.write_table(pa.concat_tables([one.slice(0, 1), two.slice(1)]), manifest(output, 1))


def retype(output):
    rewritten(manifest(output), lambda rows: rows.drop_columns(["mask_sha256"]))


def take_status(output):
    rewritten(manifest(output), lambda rows: with_value(rows, "status", 1, "perhaps"))


def point_outside(output):
    secret = output.parent / "secret.txt"
    secret.write_text("not the run's")
    rewritten(manifest(output), lambda rows: with_value(rows, "edited_uri", 0, str(secret)))
    rewritten(manifest(output), lambda rows: with_value(rows, "mask_uri", 1, "../secret.txt"))


def leave_halves(output):
    (output / "images" / ".a.png.1234.tmp").write_bytes(b"half")
    (output / "_work" / "results" / "part-00000").mkdir(parents=True)
    (output / "_work" / "results" / "part-00000" / "old.parquet").write_bytes(b"old")


def miscount(output):
    path = output / "_SUCCESS.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "failed": 3}))


def unlink_plan_part(output):
    (output / "plan" / "part-00001.parquet").unlink()


def unlink_last_plan_part(output):
    (output / "plan" / "part-00002.parquet").unlink()


def spoil_plan_part(output):
    (output / "plan" / "part-00000.parquet").write_bytes(b"no parquet")


def double_planned_row(output):
    path = output / "plan" / "part-00000.parquet"
    rewritten(path, lambda rows: pa.concat_tables([rows, rows.slice(2, 1)]))


DAMAGE = {
    unlink_image: {"missing_object": 1},
    unlink_mask: {"missing_object": 1},
    spoil_image: {"wrong_hash": 1},
    spoil_mask: {"wrong_hash": 1},
    add_orphans: {"orphan": 4},
    unlink_part: {"missing_part": 1, "wrong_success": 1},
    spoil_part: {"unreadable_part": 1, "wrong_success": 1},
    add_part: {"unplanned_part": 1},
    double_row: {"duplicate_row": 1, "wrong_success": 1},
    drop_row: {"missing_row": 1, "orphan": 2, "wrong_success": 1},
    turn_rows: {"wrong_order": 1},
    swap_rows_of_parts: {"missing_row": 2, "unplanned_row": 2, "orphan": 4},
    retype: {"wrong_schema": 1, "wrong_success": 1},
    take_status: {"unended_row": 1, "wrong_success": 1},
    point_outside: {"bad_uri": 2, "orphan": 2},
    leave_halves: {"leftover": 2},
    miscount: {"wrong_success": 1},
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_repaired_and_made_again(folder, output, damage, capsys):
    damage(output)
    assert kinds(output) == DAMAGE[damage]
    assert main(["verify", str(output)]) == 1
    said = capsys.readouterr().out
    assert all(kind in said for kind in DAMAGE[damage])
    assert f"overpaint verify {output} --repair" in said
    code = main(["verify", str(output), "--repair"])
    said = capsys.readouterr().out
    needs_run = not (output / "_SUCCESS.json").exists()
    assert code == (3 if needs_run else 0)
    assert ("overpaint run" in said) == needs_run
    assert run(folder, output) == 0
    assert main(["verify", str(output)]) == 0
    assert outputs(output) == outputs(folder / "undisturbed")
    assert not (output / "_work").exists()
    counts = [
        json.loads((at / "_SUCCESS.json").read_text()) for at in (output, folder / "undisturbed")
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "damage", [unlink_plan_part, unlink_last_plan_part, spoil_plan_part, double_planned_row]
)
def test_plan_that_is_not_whole_is_written_again_from_the_input(folder, output, damage):
    damage(output)
    assert kinds(output)["bad_plan"] == 1
    assert main(["verify", str(output), "--repair"]) == 3
    assert run(folder, output) == 0
    assert main(["verify", str(output)]) == 0
    assert outputs(output) == outputs(folder / "undisturbed")


def test_repair_makes_only_what_was_wrong_again(folder, output):
    spoiled = first(output, "images")
    spoil_image(output)
    before = {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*.png")}
    assert main(["verify", str(output), "--repair"]) == 3
    assert not spoiled.exists()
    assert run(folder, output) == 0
    after = {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*.png")}
    assert {path for path in after if after[path] != before[path]} == {spoiled}


def test_repair_of_a_sound_run_changes_nothing(output):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert main(["verify", str(output), "--repair"]) == 0
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert after == before


def test_repair_touches_no_file_outside_the_run(output, tmp_path):
    point_outside(output)
    assert main(["verify", str(output), "--repair"]) == 3
    assert (tmp_path / "secret.txt").read_text() == "not the run's"


RUNNER = """
import sys
from overpaint.pipeline.runs.lease import LeaseTimings, acquire_lease
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

with acquire_lease(RunFolder(Storage(sys.argv[1])), LeaseTimings(heartbeat_s=0.2)):
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_repair_is_refused_while_a_runner_is_at_work(output):
    unlink_image(output)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(output)], **pipes) as runner:
        assert runner.stdout.readline() == b"at work\n"
        assert main(["verify", str(output), "--repair"]) == 2
        runner.stdin.close()
    assert kinds(output) == {"missing_object": 1}


def test_repair_that_dies_before_any_of_its_steps_leaves_a_run_that_can_be_repaired(
    folder, output, monkeypatch
):
    """Fails at the first write or removal of a file, then at the second, and so on."""
    for damage in (spoil_image, double_row, add_orphans):
        damage(output)
    step = steps = 0

    class DiedError(Exception):
        pass

    def die_at(step, call):
        def counted(self, *arguments):
            nonlocal steps
            steps += 1
            if steps == step:
                raise DiedError
            return call(self, *arguments)

        return counted

    for step in range(1, 40):
        steps = 0
        with monkeypatch.context() as patch:
            for name in ("write", "_remove"):
                patch.setattr(Storage, name, die_at(step, getattr(Storage, name)))
            patch.setattr(tempfile, "tempdir", str(output.parent))
            if main(["verify", str(output), "--repair"]) == 5:
                continue
        break
    assert 3 < step < 39
    assert run(folder, output) == 0
    assert main(["verify", str(output)]) == 0
    assert outputs(output) == outputs(folder / "undisturbed")


@pytest.mark.s3
def test_verify_and_repair_on_s3(folder, s3):
    storage = Storage(f"{s3}/run")
    assert run(folder, storage.uri) == 0
    assert main(["verify", storage.uri]) == 0
    lost, spoiled = storage.list("images")[0], storage.list("masks")[3]
    storage.remove([lost])
    storage.write(spoiled, b"something else")
    storage.write("images/stray.png", b"")
    storage.write("masks/zz/stray.png", b"")
    _, findings = verify(RunFolder(storage))
    assert findings.counts == {"missing_object": 1, "wrong_hash": 1, "orphan": 2}
    assert main(["verify", storage.uri, "--repair"]) == 3
    assert run(folder, storage.uri) == 0
    assert main(["verify", storage.uri]) == 0
    names = ("plan", "images", "masks", "manifest")
    made = {path: storage.read(path) for name in names for path in storage.list(name)}
    assert made == outputs(folder / "undisturbed")


def test_verify_of_a_run_that_goes_on_calls_nothing_an_orphan(output, capsys):
    """Images of rows whose part is not written yet belong to them."""
    (output / "_SUCCESS.json").unlink()
    manifest(output).unlink()
    assert kinds(output) == {}
    assert main(["verify", str(output)]) == 1
    assert "8 pending" in capsys.readouterr().out


def test_verify_where_there_is_no_run_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["verify", str(tmp_path), "--repair"]) == 2


def test_every_hash_in_the_manifest_is_that_of_the_object(output):
    rows = edited_rows(output)
    assert len(rows) == 20
    for row in rows:
        assert sha256((output / row["edited_uri"]).read_bytes()) == row["edited_sha256"]
        assert sha256((output / row["mask_uri"]).read_bytes()) == row["mask_sha256"]
