"""Sources that are packed into tables and tars: their addresses, and what is left out."""

import json
import tarfile

import pyarrow as pa
import pytest
from overpaint.operators.sources.access import Access, Reader, read_source
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.storage.packed import CellAddress, MemberAddress, packed_address
from overpaint.pipeline.storage.store import Storage
from packed_inputs import (
    PICTURE,
    arrow_bytes,
    parquet_bytes,
    picture_table,
    pictures,
    saved_dataset,
    tar_bytes,
)

FILES = pictures(8)
HALVES = [dict(list(FILES.items())[:4]), dict(list(FILES.items())[4:])]


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        return Storage(request.getfixturevalue("s3"))
    return Storage(str(tmp_path / "input"))


def sources_of(given):
    return given.table["source_uri"].to_pylist()


def fetched(given):
    """What fetch reads of an input, in its order."""
    rows = given.table.to_pylist()
    spans = {
        span["uri"]: (span["offset"], span["size"])
        for row in rows
        for span in row.get("tar_spans") or ()
    }
    uris = [row["source_uri"] for row in rows]
    files = Reader(Access()).read(given.base_uri, uris, spans)
    return [files[uri] for uri in uris]


def codes(given):
    return [data.code if isinstance(data, RowError) else "" for data in fetched(given)]


def refused(uri, **options):
    with pytest.raises(UsageError) as caught:
        read_input(str(uri), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        MemberAddress("a/b.tar", "c#d@3"),
        MemberAddress("s3://bucket/B.TAR", "x/y.jpg"),
        CellAddress("part-0.parquet", "image", 17),
        CellAddress("part-0.parquet", "a.b@c", 0, 2),
        CellAddress("data.arrow", "image", 5),
    ],
)
def test_address_is_taken_apart_as_it_was_made(address):
    assert packed_address(str(address)) == address


@pytest.mark.parametrize("uri", ["a.png", "x.tar", "a#b.png", "t.parquet#image", "t.csv#image@3"])
def test_uri_of_a_file_is_no_address(uri):
    assert packed_address(uri) is None


def test_parquet_parts_with_pictures_are_addressed_and_read(storage):
    for number, files in enumerate(HALVES):
        data = parquet_bytes(picture_table(files, note=list(files)), row_group_size=3)
        storage.write(f"data/part-{number}.parquet", data)
    given = read_input(storage.uri)
    assert sources_of(given) == [
        f"data/part-{part}.parquet#image@{row}" for part in range(2) for row in range(4)
    ]
    assert given.table["note"].to_pylist() == list(FILES)
    assert fetched(given) == list(FILES.values())
    assert any("part-0.parquet#image@0" in note for note in given.notes)


def test_saved_dataset_is_read_split_by_split(storage):
    for split, files in zip(("train", "test"), HALVES, strict=True):
        saved_dataset(storage, f"{split}/", [picture_table(files, n=range(4))])
    storage.write("dataset_dict.json", json.dumps({"splits": ["train", "test"]}).encode())
    given = read_input(storage.uri)
    assert given.table["split"].to_pylist() == ["train"] * 4 + ["test"] * 4
    assert given.table["n"].to_pylist() == [0, 1, 2, 3] * 2
    assert sources_of(given)[4] == "test/data-00000-of-00001.arrow#image@0"
    assert fetched(given) == list(FILES.values())
    one = read_input(storage.at("test"))
    assert sources_of(one)[0] == "data-00000-of-00001.arrow#image@0"
    assert fetched(one) == list(HALVES[1].values())


def test_tars_are_addressed_and_their_texts_are_columns(storage):
    for number, files in enumerate(HALVES):
        members = [
            pair
            for place, (name, data) in enumerate(files.items())
            for pair in [
                (f"dir/{name}", data),
                (f"dir/{name.replace('.png', '.json')}", json.dumps({"n": place}).encode()),
                (f"dir/{name.replace('.png', '.txt')}", f"text {place}\n".encode()),
            ]
        ]
        storage.write(f"{number}.tar", tar_bytes([*members, ("readme.md", b"x"), ("a.txt", b"y")]))
    given = read_input(storage.uri)
    assert sources_of(given) == [
        f"{number}.tar#dir/{name}" for number, files in enumerate(HALVES) for name in files
    ]
    assert given.table["n"].to_pylist() == [0, 1, 2, 3] * 2
    assert given.table["txt"].to_pylist() == [f"text {place}" for place in range(4)] * 2
    assert fetched(given) == list(FILES.values())
    assert any("2 .md" in note for note in given.notes)
    assert any("without a picture, which are left out: 2" in note for note in given.notes)


def test_tar_members_are_read_by_ranges_alone(tmp_path, monkeypatch):
    from overpaint.pipeline.storage import tars

    (tmp_path / "a.tar").write_bytes(tar_bytes(FILES.items()))
    given = read_input(str(tmp_path / "a.tar"))
    read = []

    def spied(uri, start, stop, real=tars.read_range):
        read.append(stop - start)
        return real(uri, start, stop)

    monkeypatch.setattr(tars, "read_range", spied)
    monkeypatch.setattr(tars, "tar_members", None)
    assert fetched(given) == list(FILES.values())
    assert sum(read) == sum(512 + len(data) for data in FILES.values())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_with_long_names_are_read(tmp_path, form):
    depth = 1 if form == tarfile.USTAR_FORMAT else 5
    files = {f"{('d' * 60 + '/') * depth}é{name}": data for name, data in FILES.items()}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files.items(), form))
    given = read_input(str(tmp_path / "a.tar"))
    assert sources_of(given) == [f"a.tar#{name}" for name in files]
    assert fetched(given) == list(FILES.values())


def test_tar_that_was_replaced_is_read_by_its_names(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes(FILES.items()))
    given = read_input(str(tmp_path / "a.tar"))
    found = list(FILES.items())
    (tmp_path / "a.tar").write_bytes(tar_bytes([("new.png", b"x" * 700), *found[1:]]))
    rows = fetched(given)
    assert rows[0].code == "source_missing"
    assert rows[1:] == [data for _, data in found[1:]]


def test_pictures_beside_a_source_are_columns_of_addresses(tmp_path):
    mask = pictures(9)["008.png"]
    members = [("a.png", FILES["000.png"]), ("a.mask.png", mask), ("b.png", FILES["001.png"])]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    given = read_input(str(tmp_path / "a.tar"))
    assert sources_of(given) == ["a.tar#a.png", "a.tar#b.png"]
    assert given.table["mask_uri"].to_pylist() == ["a.tar#a.mask.png", None]
    assert read_source(given.base_uri, "a.tar#a.mask.png", Access()) == mask


def test_table_may_name_members_and_cells(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes(FILES.items()))
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(picture_table(FILES)))
    (tmp_path / "c#d.tar#x.png").write_bytes(FILES["002.png"])
    names = ["a.tar#000.png", "t.parquet#image@1", "c#d.tar#x.png", "t.parquet#image@99"]
    names += ["t.parquet#other@0", "a.tar#999.png", "t.parquet#image@0[1]", "../b.tar#000.png"]
    names += ["none.parquet#image@0"]
    rows = "".join(json.dumps({"source_uri": name}) + "\n" for name in names)
    (tmp_path / "rows.jsonl").write_text(rows)
    given = read_input(str(tmp_path))
    assert fetched(given)[:3] == [FILES["000.png"], FILES["001.png"], FILES["002.png"]]
    assert codes(given)[3:] == [*["source_missing"] * 4, "source_forbidden", "source_missing"]


def test_each_picture_of_a_list_is_a_source(storage):
    values = list(FILES.values())
    lists = [values[:2], [], None, [values[2], None]]
    table = pa.table({"images": pa.array(lists, pa.list_(pa.binary())), "n": range(4)})
    storage.write("t.parquet", parquet_bytes(table))
    given = read_input(storage.at("t.parquet"))
    places = ["0[0]", "0[1]", "1", "2", "3[0]", "3[1]"]
    assert sources_of(given) == [f"t.parquet#images@{place}" for place in places]
    assert given.table["n"].to_pylist() == [0, 0, 1, 2, 3, 3]
    assert codes(given) == ["", "", "source_null", "source_null", "", "source_null"]
    assert fetched(given)[4] == values[2]
    hub = [[{"bytes": data, "path": None} for data in row or ()] for row in lists]
    storage.write(
        "u.parquet", parquet_bytes(pa.table({"images": pa.array(hub, pa.list_(PICTURE))}))
    )
    assert fetched(read_input(storage.at("u.parquet")))[:2] == values[:2]


def test_picture_that_is_null_fails_alone(tmp_path):
    rows = [{"bytes": FILES["000.png"], "path": None}, None, {"bytes": None, "path": "x.png"}]
    rows.append({"bytes": None, "path": "gone.png"})
    (tmp_path / "x.png").write_bytes(FILES["001.png"])
    table = pa.table({"image": pa.array(rows, PICTURE)})
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(table))
    given = read_input(str(tmp_path / "t.parquet"))
    assert codes(given) == ["", "source_null", "", "source_missing"]
    assert fetched(given)[2] == FILES["001.png"]


def test_pictures_with_paths_alone_are_named_by_them(tmp_path):
    rows = [{"bytes": None, "path": name} for name in FILES]
    (tmp_path / "t.parquet").write_bytes(
        parquet_bytes(pa.table({"image": pa.array(rows, PICTURE)}))
    )
    assert sources_of(read_input(str(tmp_path / "t.parquet"))) == list(FILES)


def test_columns_of_pictures_are_chosen_by_their_names(tmp_path):
    table = picture_table(FILES, "before").append_column("after", picture_table(FILES)["image"])
    table = table.append_column(
        "references", pa.array([[row] for row in table["after"].to_pylist()])
    )
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(table.drop_columns("references")))
    path = tmp_path / "t.parquet"
    assert "'before', 'after' hold pictures: --map NAME=source_uri" in refused(path)
    given = read_input(str(path), mapping={"after": "source_uri", "before": "mask_uri"})
    assert sources_of(given)[0] == "t.parquet#after@0"
    assert given.table["mask_uri"][7].as_py() == "t.parquet#before@7"
    path.write_bytes(parquet_bytes(table))
    given = read_input(str(path), mapping={"before": "source_uri"})
    assert given.table["references"][3].as_py() == ["t.parquet#references@3[0]"]
    assert given.table.column_names == ["source_uri", "references"]


def test_binary_pictures_and_binary_texts_are_told_apart(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet_bytes(pa.table({"jpg": list(FILES.values()), "n": range(8)})))
    assert fetched(read_input(str(path))) == list(FILES.values())
    path.write_bytes(parquet_bytes(pa.table({"jpg": [b"a.png", b"b.png"]})))
    assert sources_of(read_input(str(path), mapping={"jpg": "source_uri"})) == ["a.png", "b.png"]


def test_folders_that_name_values_are_columns(tmp_path):
    for day, files in zip(("2026-01-01", "a%2Fb"), HALVES, strict=True):
        folder = tmp_path / f"day={day}" / "n=1"
        folder.mkdir(parents=True)
        (folder / "0.parquet").write_bytes(parquet_bytes(pa.table({"source_uri": list(files)})))
    given = read_input(str(tmp_path), mapping={"day": "instruction"})
    assert given.table["instruction"].to_pylist() == ["2026-01-01"] * 4 + ["a/b"] * 4
    assert given.table["n"].to_pylist() == ["1"] * 8
    (tmp_path / "0.parquet").write_bytes(parquet_bytes(pa.table({"source_uri": ["x"]})))
    assert "name different columns" in refused(tmp_path)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_parts_of_lines_are_one_table(storage, ending):
    rows = [{"source_uri": name, "n": str(place)} for place, name in enumerate(FILES)]
    for number in range(2):
        half = rows[4 * number : 4 * number + 4]
        if ending == "csv":
            text = "source_uri,n\n" + "".join(f"{r['source_uri']},{r['n']}\n" for r in half)
        else:
            text = "".join(json.dumps(row) + "\n" for row in half)
        storage.write(f"parts/{number}.{ending}", text.encode())
    storage.write("notes.md", b"x")
    given = read_input(storage.uri)
    assert given.table.to_pylist() == rows
    assert any("left out: 1 other file (1 .md)" in note for note in given.notes)


def test_parts_of_other_columns_are_refused(tmp_path):
    (tmp_path / "0.csv").write_text("source_uri,n\na.png,1\n")
    (tmp_path / "1.csv").write_text("source_uri,m\na.png,1\n")
    assert "different columns" in refused(tmp_path)


def test_tar_that_is_cut_off_is_refused(tmp_path):
    whole = tar_bytes(FILES.items())
    path = tmp_path / "a.tar"
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for cut in (end, end - 512, end - 700, 1000, 100, 0):
        path.write_bytes(whole[:cut])
        assert "a.tar" in refused(path)
        assert "cut off" in refused(path)
    path.write_bytes(whole[: end + 1024] + whole)
    assert "joined" in refused(path)
    path.write_bytes(whole[:512].replace(b"000.png", b"x00.png") + whole[512:])
    assert "cut off, or not a tar" in refused(path)
    middle = whole.index(b"004.png")
    path.write_bytes(whole[:middle] + b"x" + whole[middle + 1 :])
    assert "damaged at byte" in refused(path)


def test_member_that_is_there_twice_fails_alone(tmp_path):
    members = [*FILES.items(), ("003.png", FILES["000.png"])]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    given = read_input(str(tmp_path / "a.tar"))
    assert codes(given) == ["", "", "", "source_ambiguous", *[""] * 4]
    (tmp_path / "a.tar").write_bytes(tar_bytes([*members, ("x.txt", b"1"), ("x.txt", b"2")]))
    assert "x.txt is there twice" in refused(tmp_path / "a.tar")


def test_arrow_file_that_is_cut_off_is_refused(tmp_path):
    storage = Storage(str(tmp_path))
    saved_dataset(storage, "", [picture_table(FILES)])
    name = "data-00000-of-00001.arrow"
    whole = storage.read(name)
    for cut in (len(whole) - 8, len(whole) - 100, 9, 0):
        storage.write(name, whole[:cut])
        assert "cut off" in refused(tmp_path) or "not an Arrow file" in refused(tmp_path)
    storage.remove([name])
    assert "no such" in refused(tmp_path).lower()


def test_arrow_file_by_itself_is_a_table(tmp_path):
    (tmp_path / "t.arrow").write_bytes(arrow_bytes(picture_table(FILES), 2))
    given = read_input(str(tmp_path / "t.arrow"))
    assert fetched(given) == list(FILES.values())
    with pa.ipc.new_file(str(tmp_path / "f.arrow"), picture_table(FILES).schema) as writer:
        writer.write_table(picture_table(FILES))
    assert fetched(read_input(str(tmp_path / "f.arrow"))) == list(FILES.values())


def test_limit_opens_no_more_files_than_it_needs(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02d}.tar").write_bytes(tar_bytes(FILES.items()))
    (tmp_path / "39.tar").write_bytes(b"not a tar")
    assert len(sources_of(read_input(str(tmp_path), limit=9))) == 9
    assert "39.tar" in refused(tmp_path)
