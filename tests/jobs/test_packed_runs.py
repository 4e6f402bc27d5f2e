"""Runs over pictures as people have them: files, tables, tars and saved datasets."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.jobs import run
from overpaint.jobs.cli import main
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from packed_inputs import PICTURE, parquet_bytes, picture_table, pictures, saved_dataset, tar_bytes

RECIPE = """
name = "negative"
[[stage]]
operator = "negative"
batch_size = 4
[limits]
task_rows = 4
"""
FILES = pictures(10)


def _files(storage):
    for name, data in FILES.items():
        storage.write(name, data)


def _parquet(storage):
    for number, names in enumerate((list(FILES)[:6], list(FILES)[6:])):
        table = picture_table({name: FILES[name] for name in names}, name=names)
        storage.write(f"part-{number}.parquet", parquet_bytes(table, row_group_size=4))


def _binary(storage):
    table = pa.table({"jpg": list(FILES.values()), "name": list(FILES)})
    storage.write("part.parquet", parquet_bytes(table))


def _lists(storage):
    values = [{"bytes": data, "path": None} for data in FILES.values()]
    lists = pa.array([values[:6], values[6:]], pa.list_(PICTURE))
    storage.write("part.parquet", parquet_bytes(pa.table({"images": lists})))


def _tars(storage):
    storage.write("a/0.tar", tar_bytes(list(FILES.items())[:6]))
    storage.write("a/1.tar", tar_bytes(list(FILES.items())[6:]))


def _saved(storage):
    saved_dataset(storage, "", [picture_table(FILES)], batch_rows=4)


KINDS = (_parquet, _binary, _lists, _tars, _saved)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "negative.toml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module")
def plain(recipe, tmp_path_factory):
    """The rows of a run over the pictures as files."""
    home = tmp_path_factory.mktemp("plain")
    _files(Storage(str(home / "input")))
    return _rows(recipe, str(home / "input"), str(home / "run"))


def _rows(recipe, given, output):
    result = run(recipe, input=given, output=output, ray=False)
    assert result.ledger.planned == result.ledger.accepted
    assert main(["verify", output]) == 0
    return list(result.rows())


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_in_any_form_give_the_same_pixels(kind, plain, recipe, tmp_path):
    _check(kind, str(tmp_path / "input"), plain, recipe, tmp_path)


@pytest.mark.parametrize("kind", [_parquet, _tars, _saved])
def test_pictures_on_a_store_give_the_same_pixels(kind, plain, recipe, tmp_path, s3):
    _check(kind, s3, plain, recipe, tmp_path)


def _check(kind, given, plain, recipe, tmp_path):
    kind(Storage(given))
    rows = _rows(recipe, given, str(tmp_path / "run"))
    for name in ("source_sha256", "edited_sha256"):
        assert [row[name] for row in rows] == [row[name] for row in plain]
    images = RunImages(RunFolder(Storage(str(tmp_path / "run"))))
    for row, data in zip(rows, FILES.values(), strict=True):
        assert images.read(images.uri(row, "source_image")) == data
    assert len({row["key"] for row in rows}) == len(FILES)
    key = rows[3]["key"]
    assert main(["replay", str(tmp_path / "run"), key]) == 0


def test_sources_of_the_same_names_have_the_same_keys(plain, recipe, tmp_path):
    rows = [{"bytes": None, "path": name} for name in FILES]
    home = Storage(str(tmp_path / "input"))
    _files(Storage(home.at("pictures")))
    home.write("table/t.parquet", parquet_bytes(pa.table({"image": pa.array(rows, PICTURE)})))
    result = run(
        *(recipe,),
        input=home.at("table/t.parquet"),
        base_uri=home.at("pictures"),
        output=str(tmp_path / "run"),
        ray=False,
    )
    assert [row["key"] for row in result.rows()] == [row["key"] for row in plain]


def test_tars_give_the_same_keys_wherever_they_are(recipe, tmp_path, s3):
    keys = []
    for home in (str(tmp_path / "input"), s3):
        _tars(Storage(home))
        rows = _rows(recipe, home, str(tmp_path / f"run-{len(keys)}"))
        keys.append([row["key"] for row in rows])
    assert keys[0] == keys[1]


def test_masks_in_tars_are_read(tmp_path):
    import numpy as np
    from overpaint.pipeline.images import encode_mask

    mask = np.zeros((10, 12), np.uint8)
    mask[2:6, 3:9] = 255
    members = [("a.png", FILES["000.png"]), ("a.mask.png", encode_mask(mask))]
    members += [("b.png", FILES["002.png"])]
    Storage(str(tmp_path / "input")).write("0.tar", tar_bytes(members))
    path = tmp_path / "masked.toml"
    path.write_text(
        'name = "m"\n[[stage]]\noperator = "fetch"\nconditions = ["mask"]\n'
        + ('[[stage]]\noperator = "negative"\n')
    )
    output = tmp_path / "run"
    result = run(str(path), input=str(tmp_path / "input"), output=str(output), ray=False)
    first, second = result.rows()
    assert (first["status"], first["mask_source"]) == ("accepted", "given")
    assert (second["status"], second["error_code"]) == ("failed", "mask_missing")


def test_rows_without_a_picture_fail_with_a_code_and_none_is_lost(recipe, tmp_path):
    values = [{"bytes": FILES["000.png"], "path": None}, None, {"bytes": b"", "path": "x"}]
    table = pa.table({"image": pa.array(values, PICTURE)})
    Storage(str(tmp_path / "input")).write("t.parquet", parquet_bytes(table))
    output = tmp_path / "run"
    result = run(recipe, input=str(tmp_path / "input"), output=str(output), ray=False)
    codes = [row["error_code"] for row in result.rows()]
    assert codes == [None, "source_null", "image_empty"]
    assert main(["verify", str(output)]) == 0


def test_run_goes_on_over_tars_and_notices_that_they_changed(recipe, tmp_path, capsys):
    given = Storage(str(tmp_path / "input"))
    _tars(given)
    command = ["run", recipe, "--input", given.uri, "--output", str(tmp_path / "run"), "--no-ray"]
    assert main(command) == 0
    assert main(command) == 0
    given.write("a/2.tar", tar_bytes([("x.png", FILES["001.png"])]))
    assert main(command) == 2
    assert main([*command, "--update"]) == 0
    success = json.loads((tmp_path / "run" / "_SUCCESS.json").read_text())
    assert success["planned"] == 11
    names = pq.read_table(tmp_path / "run" / "manifest")["source_uri"].to_pylist()
    assert names[-1] == "a/2.tar#x.png"
    assert main(["plan", recipe, "--input", given.uri]) == 0
    assert "11 input rows give 11 edits" in capsys.readouterr().out
