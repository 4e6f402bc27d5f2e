"""Near-duplicates among sources: found from a run of hashes, and refused before an edit."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs import run
from overpaint.jobs.cli import main
from overpaint.jobs.dedupe.dedupe import dedupe
from overpaint.jobs.dedupe.kept import choose_kept
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.operators.dedupe import Dedupe
from overpaint.operators.measures.perceptual_hash import hamming_distance
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage
from toy_operators import ToyCaption, ToyEdit, ToyInvert

SCENES = 5


def clustered(rng, number):
    """Hashes of which many are near to others, some equal, and some chained."""
    centres = rng.integers(0, 2**64, number // 8, dtype=np.uint64)
    hashes = rng.choice(centres, number)
    for _ in range(6):
        flips = np.uint64(1) << rng.integers(0, 64, number, dtype=np.uint64)
        hashes = np.where(rng.random(number) < 0.4, hashes ^ flips, hashes)
    return hashes


def kept_one_by_one(hashes, order, near_bits):
    """The source that each is near to, by looking at the kept ones one after another."""
    kept, by, of_hash = [], {}, {}
    for place in order.tolist():
        bits = [(int(hashes[place] ^ hashes[k]).bit_count(), n, k) for n, k in enumerate(kept)]
        near = [one for one in bits if one[0] <= near_bits]
        found = of_hash.setdefault(int(hashes[place]), min(near)[2] if near else place)
        by[place] = found
        kept += [place] if found == place else []
    return np.array([by[place] for place in range(len(hashes))])


@pytest.mark.parametrize("near_bits", [0, 1, 3, 4, 8])
def test_source_is_refused_where_a_better_kept_one_is_near(near_bits):
    rng = np.random.default_rng(near_bits)
    hashes, order = clustered(rng, 400), rng.permutation(400)
    found = choose_kept(hashes, order, near_bits)
    np.testing.assert_array_equal(found.by, kept_one_by_one(hashes, order, near_bits))
    np.testing.assert_array_equal(found.bits, np.bitwise_count(hashes ^ hashes[found.by]))
    assert (found.by != np.arange(400)).any()
    assert (found.by == np.arange(400)).any()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Scenes; a JPEG of the first, a larger copy of the second, a copy, and a broken file."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(SCENES):
        draw(sample_edit(number, "color", "test").source).save(folder / f"scene-{number}.png")
    scene = draw(sample_edit(0, "color", "test").source)
    scene.save(folder / "tiny-scene-0.jpg", quality=60)
    scene = draw(sample_edit(1, "color", "test").source)
    scene.resize((scene.width * 2, scene.height * 2)).save(folder / "wide-scene-1.png")
    scene.save(folder / "wide-scene-1-again.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def hashes(photos, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("hashed") / "run")
    run("hashes", input=str(photos), output=output, ray=False)
    return output


def table(uri):
    rows = pq.read_table(io.BytesIO(Storage(uri.rpartition("/")[0]).read(uri.rpartition("/")[2])))
    return {row["source_uri"]: row for row in rows.to_pylist()}


def duplicates(uri):
    rows = table(uri).items()
    return {name: row["near_duplicate_of"] for name, row in rows if row["near_duplicate_of"]}


def test_command_writes_which_sources_are_near_to_which(hashes, photos, tmp_path, capsys):
    output = str(tmp_path / "near.parquet")
    assert main(["dedupe", hashes, "--output", output]) == 0
    assert "9 sources: 6 kept, 3 near-duplicates of them; 1 could not" in capsys.readouterr().out
    assert duplicates(output) == {
        "tiny-scene-0.jpg": "scene-0.png",
        "wide-scene-1.png": "scene-1.png",
        "wide-scene-1-again.png": "scene-1.png",
    }
    rows = table(output)
    assert set(rows) == {path.name for path in photos.iterdir()}
    assert rows["broken.png"]["phash_source"] is None
    for name, near in duplicates(output).items():
        bits = hamming_distance(rows[name]["phash_source"], rows[near]["phash_source"])
        assert rows[name]["near_bits"] == bits
    again = str(tmp_path / "again.parquet")
    dedupe(RunFolder.at(hashes), again)
    assert (tmp_path / "near.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_largest_source_is_kept_where_that_is_asked_for(hashes, tmp_path):
    output = str(tmp_path / "near.parquet")
    assert main(["dedupe", hashes, "--output", output, "--keep", "largest"]) == 0
    found = duplicates(output)
    assert {name: near for name, near in found.items() if "scene-1" in name} == {
        "scene-1.png": "wide-scene-1.png",
        "wide-scene-1-again.png": "wide-scene-1.png",
    }


def plan(*stages):
    toys = (Stage(operator=each, group="all") for each in (ToyCaption(), ToyInvert(), ToyEdit()))
    return Plan(
        name="toy",
        stages=(*stages, *toys),
        row={"instruction": "brighter"},
        task_rows=2,
    )


def ends(result):
    return {row["source_uri"]: row for row in result.rows()}


def test_near_duplicates_end_before_they_are_edited(hashes, photos, tmp_path):
    output = str(tmp_path / "near.parquet")
    dedupe(RunFolder.at(hashes), output)
    unique = plan(Stage(operator=Dedupe(table=output)))
    rows = ends(run(unique, input=str(photos), output=str(tmp_path / "run"), ray=False))
    refused = {name: row for name, row in rows.items() if row["error_code"] == "near_duplicate"}
    assert set(refused) == set(duplicates(output))
    assert all(row["status"] == "rejected" for row in refused.values())
    assert all(row["edited_uri"] is None for row in refused.values())
    for name, near in duplicates(output).items():
        assert f"near-duplicate of {near}, which is kept" in refused[name]["error_message"]
    assert rows["broken.png"]["error_code"] == "image_unreadable"
    assert {rows[name]["near_duplicates"] for name in ("scene-2.png", "scene-3.png")} == {0}
    assert rows["scene-1.png"]["near_duplicates"] == 2

    every = ends(run(plan(), input=str(photos), output=str(tmp_path / "all"), ray=False))
    assert {n: r["key"] for n, r in rows.items()} == {n: r["key"] for n, r in every.items()}
    kept = set(rows) - set(refused) - {"broken.png"}
    assert {rows[n]["edited_sha256"] for n in kept} == {every[n]["edited_sha256"] for n in kept}


def test_table_on_a_store_serves_as_well(hashes, moto_s3):
    output = f"{moto_s3}/near.parquet"
    assert dedupe(RunFolder.at(hashes), output) == (9, 3, 1)
    operator = Dedupe(table=output)
    operator.check()
    loaded = operator.load()
    answers = operator.run([{"source_uri": "scene-0.png"}, {"source_uri": "elsewhere.png"}], loaded)
    assert answers[0] == {"near_duplicates": 1}
    assert answers[1].code == "dedupe_unknown"


def test_wrong_tables_and_runs_are_refused_before_anything_starts(hashes, photos, tmp_path):
    with pytest.raises(ValueError, match="table names no file"):
        Dedupe().check()
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        Dedupe(table=str(tmp_path / "none.parquet")).check()
    part = next(RunFolder.at(hashes).storage.walk("plan"))[0]
    with pytest.raises(ValueError, match="has no column 'phash_source'"):
        Dedupe(table=RunFolder.at(hashes).storage.at(part)).check()
    with pytest.raises(UsageError, match="must be 0 to 8"):
        dedupe(RunFolder.at(hashes), str(tmp_path / "t.parquet"), near_bits=9)
    with pytest.raises(UsageError, match=r"ends in \.parquet"):
        dedupe(RunFolder.at(hashes), str(tmp_path / "t.csv"))
    with pytest.raises(UsageError, match="no finished run is there"):
        dedupe(RunFolder.at(str(photos)), str(tmp_path / "t.parquet"))
    run(plan(), input=str(photos), output=str(tmp_path / "all"), ray=False)
    with pytest.raises(UsageError, match="rows have no phash_source"):
        dedupe(RunFolder.at(str(tmp_path / "all")), str(tmp_path / "t.parquet"))
