import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.storage.store import Storage
from toy_runs import (
    finish,
    manifest_rows,
    planned_run,
    table_of,
    toy_plan,
    write_sources,
)

ROWS = [
    {"source_uri": "a.png", "instruction": "make it blue", "size": "3"},
    {"source_uri": "b.png", "instruction": 'say "hi",\nthen go', "size": None},
]


def jsonl_bytes(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def refused(uri, **options):
    with pytest.raises(UsageError) as caught:
        read_input(str(uri), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["parquet", "jsonl", "csv"])
def table_file(request, tmp_path):
    path = tmp_path / f"rows.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif request.param == "jsonl":
        path.write_bytes(jsonl_bytes(ROWS))
    else:
        text = 'source_uri,instruction,size\na.png,make it blue,3\nb.png,"say ""hi"",\nthen go",\n'
        path.write_text(text)
    return path


def test_input_table_in_every_format_gives_the_same_rows(table_file):
    found = read_input(str(table_file))
    assert found.table.to_pylist() == ROWS
    assert found.base_uri == str(table_file.parent)


def test_input_csv_empty_cells_have_no_value_and_words_are_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("source_uri,instruction,other\na.png,,1\nb.png,null,2\nc.png,NA,3\n")
    found = read_input(str(path)).table
    assert found["instruction"].to_pylist() == [None, "null", "NA"]


def test_input_folder_lists_images_in_order_and_nothing_else(tmp_path):
    names = ["b/2.JPG", "a.png", "b/1.webp", "c.txt", ".hidden.png", "b/.x.png", "z.tiff"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_input(str(tmp_path))
    assert found.table["source_uri"].to_pylist() == ["a.png", "b/1.webp", "b/2.JPG", "z.tiff"]
    assert found.base_uri == str(tmp_path)


def test_input_folder_on_s3_lists_what_a_local_one_does(s3):
    for name in ("b/2.JPG", "a.png", "b/1.webp", "c.txt", ".hidden.png", "b/.x.png", "z.tiff"):
        Storage(s3).write(name, b"x")
    found = read_input(f"{s3}/")
    assert found.table["source_uri"].to_pylist() == ["a.png", "b/1.webp", "b/2.JPG", "z.tiff"]
    assert found.base_uri == s3


def test_input_table_on_s3_is_read(s3):
    Storage(s3).write("rows.jsonl", jsonl_bytes(ROWS))
    assert read_input(s3).table.to_pylist() == ROWS
    assert read_input(f"{s3}/rows.jsonl").base_uri == s3


def test_input_parquet_on_s3_is_read_but_for_its_bytes(s3):
    table = pa.table({"source_uri": ["a.png"], "note": ["x"], "blob": [b"b" * 10**6]})
    data = io.BytesIO()
    pq.write_table(table, data)
    Storage(s3).write("rows.parquet", data.getvalue())
    assert read_input(f"{s3}/rows.parquet").table.to_pylist() == [
        {"source_uri": "a.png", "note": "x"}
    ]
    assert read_input(s3, keep=["blob"]).table.to_pylist() == table.to_pylist()


def test_input_folder_with_rows_file_is_that_table(tmp_path):
    write_sources(tmp_path, 3)
    (tmp_path / "rows.jsonl").write_bytes(jsonl_bytes(ROWS))
    assert read_input(str(tmp_path)).table.num_rows == 2


def test_input_of_another_run_is_its_accepted_images(tmp_path):
    from overpaint.cluster.worker.in_process import run_local
    from overpaint.pipeline.runs.tasks import remaining

    sources = write_sources(tmp_path / "in", 3)
    rows = [{"source_uri": name, "instruction": "x"} for name in sources]
    rows[1]["instruction"] = "raise"
    run = planned_run(toy_plan(), table_of(rows, tmp_path / "in"), tmp_path / "run")
    run.folder.write_json("recipe.json", {})
    list(run_local(run, remaining(run.folder, 4).tasks))
    finish(run)
    assert "not finished" in refused(tmp_path / "run")
    run.folder.write_json("_SUCCESS.json", {})
    accepted = [row for row in manifest_rows(run.folder) if row["status"] == "accepted"]
    found = read_input(str(tmp_path / "run"))
    assert found.table["source_uri"].to_pylist() == [row["edited_uri"] for row in accepted]
    assert found.table["parent_key"].to_pylist() == [row["key"] for row in accepted]
    assert Storage(found.base_uri).exists(found.table["source_uri"][0].as_py())


def test_input_limit_takes_from_the_front(table_file):
    assert read_input(str(table_file), limit=1).table.to_pylist() == ROWS[:1]
    assert read_input(str(table_file), limit=9).table.num_rows == 2


def test_input_mapping_renames_columns(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"file_name": "a.png", "text": "x"}) + "\n")
    mapping = {"file_name": "source_uri", "text": "instruction"}
    assert read_input(str(path), mapping=mapping).table.column_names == list(mapping.values())
    assert "no column source_uri" in refused(path)
    assert "did you mean 'file_name'?" in refused(path, mapping={"filename": "source_uri"})


def test_input_mapping_onto_a_column_that_is_there_is_refused(table_file):
    message = refused(table_file, mapping={"instruction": "source_uri"})
    assert "two columns are named 'source_uri'" in message


def test_input_text_stored_as_categories_is_text(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"source_uri": pa.array(["a", "b", "a"]).dictionary_encode()}), path)
    found = read_input(str(path)).table
    assert found["source_uri"].to_pylist() == ["a", "b", "a"]
    assert found.schema.field("source_uri").type == pa.string()


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("t.parquet", b"no parquet", "cannot be read as a table"),
        ("t.jsonl", b"{broken", "cannot be read as a table"),
        ("t.jsonl", b"", "cannot be read as a table"),
        ("t.csv", b"", "cannot be read as a table"),
        ("t.csv", b"source_uri\n", "no rows"),
        ("t.csv", b"uri\na.png\n", "no column source_uri: known: uri; --map"),
        ("t.csv", b" source_uri\na.png\n", "did you mean ' source_uri'?"),
        ("t.jsonl", b'{"source_uri": 3}\n', "source_uri is int64"),
        ("t.jsonl", b'{"source_uri": "a"}\n{"source_uri": null}\n', "first in line 2"),
        ("t.txt", b"source_uri\n", "not a table; known endings: .parquet"),
    ],
)
def test_input_wrong_is_refused_with_its_uri_and_the_reason(tmp_path, name, content, wanted):
    path = tmp_path / name
    path.write_bytes(content)
    message = refused(path)
    assert wanted in message
    assert str(path) in message


@pytest.mark.parametrize("name", [f"{'x' * 300}.png", "nul\0byte.png", "foo://bucket/x.png"])
def test_input_first_source_that_no_file_can_be_is_for_fetch_to_say(tmp_path, name):
    (tmp_path / "rows.jsonl").write_bytes(jsonl_bytes([{"source_uri": name}]))
    assert read_input(str(tmp_path)).base_uri == str(tmp_path)


def test_input_file_name_that_is_no_text_is_left_out_and_named(tmp_path):
    (tmp_path / os.fsdecode(b"\xe9t\xe9.png")).write_bytes(b"")
    assert r"1 whose name is not UTF-8 text; rename it (\udce9t\udce9.png)" in refused(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert read_input(str(tmp_path)).table["source_uri"].to_pylist() == ["a.png"]


def test_input_absent_or_empty_is_refused(tmp_path, s3):
    assert "no such input" in refused(tmp_path / "nothing")
    assert "no images" in refused(tmp_path)
    assert "no such input" in refused(f"{s3}/nothing")


def test_input_that_may_not_be_read_is_refused_as_that(s3, monkeypatch):
    import s3fs

    Storage(s3).write("rows.jsonl", jsonl_bytes(ROWS))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    assert "may not be read" in refused(s3)


@pytest.mark.parametrize("limit", [0, -1])
def test_input_limit_below_one_is_refused(table_file, limit):
    assert f"--limit {limit}" in refused(table_file, limit=limit)


@pytest.mark.parametrize("uri", ["", "x\0y", os.fsdecode(b"t\xe9")])
def test_input_that_is_no_path_is_refused(uri):
    refused(uri)


BASES = {
    "folder": (range(40), [], ""),
    "images": ([], range(40), "images"),
    "first row missing": ([], range(1, 40), "images"),
    "last row missing": ([], range(39), "images"),
    "most in images": (range(5), range(5, 40), "images"),
    "most in the folder": (range(30), range(30, 40), ""),
    "as many in both": (range(40), range(40), ""),
    "nowhere": ([], [], ""),
}


@pytest.mark.parametrize("case", BASES)
def test_input_base_is_where_more_of_the_sources_lie(tmp_path, case):
    (tmp_path / "images").mkdir()
    in_folder, in_images, base = BASES[case]
    for folder, numbers in (("", in_folder), ("images", in_images)):
        for number in numbers:
            (tmp_path / folder / f"{number}.png").touch()
    (tmp_path / "t.csv").write_text("source_uri\n" + "".join(f"{i}.png\n" for i in range(40)))
    found = read_input(str(tmp_path / "t.csv"))
    assert found.base_uri == str(tmp_path / base)
    assert f"relative sources are below {tmp_path / base}" in found.notes[0]
    elsewhere = read_input(str(tmp_path / "t.csv"), base_uri=str(tmp_path / "images"))
    assert elsewhere.base_uri == str(tmp_path / "images")


def test_input_of_parquet_files_in_a_folder_is_one_table(tmp_path):
    for shard in range(3):
        rows = [{"source_uri": f"{shard}-{i}.png", "n": None if shard == 0 else i} for i in (0, 1)]
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"data/train-{shard}-of-3.parquet")
    found = read_input(str(tmp_path))
    names = [f"{shard}-{i}.png" for shard in range(3) for i in (0, 1)]
    assert found.table["source_uri"].to_pylist() == names
    assert found.table["n"].to_pylist() == [None, None, 0, 1, 0, 1]
    assert (found.base_uri, found.is_sharded) == (str(tmp_path), True)
    pq.write_table(pa.table({"source_uri": ["x"], "m": [1]}), tmp_path / "data/z.parquet")
    assert "different columns" in refused(tmp_path)
    pq.write_table(pa.table({"source_uri": ["x"], "n": ["text"]}), tmp_path / "data/z.parquet")
    assert "different types" in refused(tmp_path)
    (tmp_path / "a.png").touch()
    assert read_input(str(tmp_path)).table["source_uri"].to_pylist() == ["a.png"]


def test_input_folder_without_images_is_the_table_in_it(tmp_path):
    (tmp_path / "pairs.csv").write_text("source_uri\nx.png\n")
    assert read_input(str(tmp_path)).table["source_uri"].to_pylist() == ["x.png"]
