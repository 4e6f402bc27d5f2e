"""Tables of every encoding, line end, quoting and kind of value, held against what was written."""

import json
from itertools import product

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.inputs import read_input
from overpaint.pipeline.runs.planning import plan_parts
from toy_runs import toy_plan

MANY = 17_000
"""Rows of more than one batch of the readers."""
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
NEWLINES = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
TEXTS = [
    *("007", "1e5", "+3", "0x10", "1_000", "12345678901234567890123", "3.10", "NaN", "-0", "1,5"),
    *("2024-01-02", "2024-01-02T03:04:05Z", "12:30", "true", "False", "null", "NA", "None", "-"),
    *('say "hi"', "two\nlines", "two\r\nlines", "a\rb", "a,b;c\td", " blanks ", "'", "#", "\\n"),
    *("café", "e\u0301", "日本語", "🖌️", "אבג", "\u2028", "\ufeff", "x" * 200_000, "\u00a0", '"'),
]


def read(path, **options):
    return read_input(str(path), **options).table


def refused(path, **options):
    with pytest.raises(UsageError) as caught:
        read_input(str(path), **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def csv_text(rows, delimiter, newline, quote_all):
    """Rows as RFC 4180 has them, without any of the code that reads them."""

    def cell(text):
        is_plain = not quote_all and not set(text) & {delimiter, '"', "\r", "\n"}
        return text if is_plain else '"' + text.replace('"', '""') + '"'

    return "".join(delimiter.join(map(cell, row)) + newline for row in rows)


@pytest.mark.parametrize(
    ("encoding", "newline", "delimiter", "quote_all"),
    [*product(ENCODINGS, NEWLINES, DELIMITERS, [False, True])],
)
def test_csv_is_read_as_it_is_written(tmp_path, encoding, newline, delimiter, quote_all):
    rows = [[f"{index}.png", text, str(index)] for index, text in enumerate(TEXTS)]
    header = ["source_uri", "instruction", "id"]
    text = csv_text([header, *rows], DELIMITERS[delimiter], NEWLINES[newline], quote_all)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = read(tmp_path / "t.csv")
    assert [list(row.values()) for row in table.to_pylist()] == rows
    assert set(table.schema.types) == {pa.string()}


def lines_of(rows, layout, newline, ascii_only):
    indent = 2 if layout == "pretty" else None
    gap = newline if layout == "blank lines" else ""
    objects = [json.dumps(row, ensure_ascii=ascii_only, indent=indent) for row in rows]
    return "".join(text.replace("\n", newline) + newline + gap for text in objects)


VALUES = {
    "integers": [0, -1, 2**63 - 1, -(2**63), None],
    "floats": [0.1, 1e300, -2.5, 3, None],
    "flags": [True, False, None],
    "dates": ["2024-01-02", "2024-01-02T03:04:05Z", "12:30", "", "null"],
    "lists": [[1, 2], [], [3], None],
    "objects": [{"z": 1, "a": "x"}, {"z": 2, "b": [True]}, None],
    "nothing": [None, None],
}
AS_TEXT = {
    "long ids": ([12345678901234567890123, 7], ["12345678901234567890123", "7"]),
    "unsigned": ([2**63, 1], ["9223372036854775808", "1"]),
    "mixed": (["a1", 7, 2.5, True, None], ["a1", "7", "2.5", "true", None]),
    "fine beside broken": ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]),
    "lists and not": ([[1, "é"], 2], ['[1, "é"]', "2"]),
    "objects at odds": ([{"a": 1}, {"a": "x"}], ['{"a": 1}', '{"a": "x"}']),
    "empty objects": ([{}, None], ["{}", None]),
}


@pytest.mark.parametrize(
    ("encoding", "newline", "layout", "ascii_only"),
    [*product(ENCODINGS, NEWLINES, ["lines", "blank lines", "pretty"], [True, False])],
)
def test_jsonl_is_read_as_it_is_written(tmp_path, encoding, newline, layout, ascii_only):
    rows = [{"source_uri": f"{index}.png", "instruction": t} for index, t in enumerate(TEXTS)]
    for name, values in VALUES.items():
        for row, value in zip(rows, values, strict=False):
            row[name] = value
    text = lines_of(rows, layout, NEWLINES[newline], ascii_only)
    (tmp_path / "t.jsonl").write_bytes(text.encode(encoding))
    found = read(tmp_path / "t.jsonl").to_pylist()
    for row, wanted in zip(found, rows, strict=True):
        for name in VALUES:
            assert _same(row[name], wanted.get(name)), name
        assert row["instruction"] == wanted["instruction"]


def _same(found, wanted):
    """Tells whether values are equal; objects of a column have each other's fields, as null."""
    if isinstance(wanted, dict):
        return all(_same(value, wanted.get(name)) for name, value in found.items())
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


@pytest.mark.parametrize("name", AS_TEXT)
@pytest.mark.parametrize("rows_between", [0, MANY])
def test_jsonl_values_without_a_common_type_are_text(tmp_path, name, rows_between):
    values, texts = AS_TEXT[name]
    values = [values[0], *[None] * rows_between, *values[1:]]
    rows = [{"source_uri": f"{index}.png", "x": value} for index, value in enumerate(values)]
    (tmp_path / "t.jsonl").write_text(lines_of(rows, "lines", "\n", False))
    found = read(tmp_path / "t.jsonl")["x"]
    assert found.type == pa.string()
    assert [*found[:1].to_pylist(), *found[1 + rows_between :].to_pylist()] == texts


def test_jsonl_columns_keep_the_types_of_their_values(tmp_path):
    row = {"source_uri": "a", "i": 1, "f": 1.5, "b": True, "l": [1], "s": {"z": 1, "a": "x"}}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    nested = pa.struct([("z", pa.int64()), ("a", pa.string())])
    kinds = [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.list_(pa.int64()), nested]
    assert read(tmp_path / "t.jsonl").schema.types == kinds


def test_jsonl_lines_of_megabytes_are_read(tmp_path):
    rows = [{"source_uri": f"{i}.png", "blob": str(i) * 3_000_000} for i in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert read(tmp_path / "t.jsonl").to_pylist() == rows


STRINGS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize(("kind", "codec"), [*product(STRINGS, ["snappy", "zstd", "none"])])
def test_parquet_texts_of_every_type_are_planned_as_texts(tmp_path, kind, codec):
    texts = [text for text in TEXTS if len(text) < 1000]
    table = pa.table(
        {
            "source_uri": pa.array([f"{i}.png" for i in range(len(texts))]).cast(STRINGS[kind]),
            "instruction": pa.array(texts).cast(STRINGS[kind]),
            "tags": pa.array([[text] for text in texts], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", compression=codec)
    from overpaint.pipeline.runs.inputs import InputRequest

    given = InputRequest(str(tmp_path / "t.parquet")).read({"instruction"})
    rows = [row for part, _ in plan_parts(toy_plan(), given) for row in part.to_pylist()]
    assert [row["instruction"] for row in rows] == texts
    assert [row["in_tags"] for row in rows] == [[text] for text in texts]


def test_parquet_views_within_lists_and_objects_are_texts(tmp_path):
    nested = pa.struct([("a", pa.list_(pa.string_view()))])
    table = pa.table({"source_uri": ["x"], "n": pa.array([{"a": ["é"]}], nested)})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")["n"]
    assert found.to_pylist() == [{"a": ["é"]}]
    assert "view" not in str(found.type)


GOOD_CSV = ["source_uri,instruction,seed", *(f"{i}.png,paint it,{i}" for i in range(MANY))]
BAD_CSV = {
    "open quote at the end": ('x.png,"two,3', MANY + 2, "is not closed"),
    "open quote": ('x.png,"two,3\ny.png,three,4\nz.png,"four",5', MANY + 2, "not closed"),
    "rows in a cell": ('x.png,"two,3\ny.png,three,4\nz.png,four",5', MANY + 2, "holds the rows"),
    "quote within a cell": ('x.png,"a"b"c",3', MANY + 2, "written twice"),
    "URLs in a cell": ('s3://a/1,"x,3\ns3://b/2,y,4\ns3://c/3,z",5', MANY + 2, "holds the rows"),
    "one cell more": ("x.png,two,3,4", MANY + 2, "has 4 cells"),
    "one cell less": ("x.png,two", MANY + 2, "has 2 cells"),
    "after lines in cells": ('x.png,"a\nb\nc",3\nx.png', MANY + 5, "has 1 cells"),
    "another encoding": (b"x.png,caf\xe9,3", MANY + 2, "is not UTF-8 text (byte 0xe9)"),
}


@pytest.mark.parametrize("case", BAD_CSV)
@pytest.mark.parametrize("newline", NEWLINES.values(), ids=NEWLINES)
def test_csv_row_that_is_not_whole_is_refused_with_its_line(tmp_path, case, newline):
    text, line, words = BAD_CSV[case]
    text = text if isinstance(text, bytes) else text.replace("\n", newline).encode()
    data = newline.join([*GOOD_CSV, ""]).encode() + text
    (tmp_path / "t.csv").write_bytes(data)
    message = refused(tmp_path / "t.csv")
    assert f"line {line}" in message
    assert words in message


GOOD_JSONL = [f'{{"source_uri": "{i}.png", "seed": {i}}}' for i in range(MANY)]
BAD_JSONL = {
    "no comma": ('{"source_uri": "x.png" "a": 1}', MANY + 1, "Expecting ',' delimiter"),
    "a list": ('[{"source_uri": "x.png"}]', MANY + 1, "one object a line"),
    "a number": ("3", MANY + 1, "not an object"),
    "not closed": ('{"source_uri": "x.png"', MANY + 1, "is not closed"),
    "line end in a text": ('{"source_uri": "x\n.png"}', MANY + 1, "not JSON"),
    "later line of an object": ('{"source_uri":\n"x.png",\n"a": b}', MANY + 3, "Expecting value"),
    "two of one name": ('{"a": 1, "b": 2, "a": 3}', MANY + 1, "named 'a'"),
    "half a character": ('{"source_uri": "\\ud800"}', MANY + 1, "surrogate"),
    "beyond floats": ('{"source_uri": "x", "a": 1e999}', MANY + 1, "too large"),
    "another encoding": (b'{"source_uri": "caf\xe9"}', MANY + 1, "is not UTF-8 text (byte 0xe9)"),
}


@pytest.mark.parametrize("case", BAD_JSONL)
def test_jsonl_line_that_is_no_row_is_refused_with_its_line(tmp_path, case):
    text, line, words = BAD_JSONL[case]
    text = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "t.jsonl").write_bytes("\n".join([*GOOD_JSONL, ""]).encode() + text)
    message = refused(tmp_path / "t.jsonl")
    assert f"line {line}" in message
    assert words in message


@pytest.mark.parametrize(
    ("name", "rows", "place"),
    [
        (
            "t.csv",
            "source_uri,instruction,seed\na,x,1\nb,x,\n\nc,x, 2.0 \nd,x,2.5\n",
            "line 6: '2.5'",
        ),
        ("t.csv", 'source_uri,instruction,seed\na,"x\ny",1\nb,x,one\n', "line 4: 'one'"),
        (
            "t.jsonl",
            '{"source_uri": "a", "seed": 1}\n{"source_uri": "b", "seed": "x"}',
            "line 2: 'x'",
        ),
        ("t.jsonl", '{"source_uri": "a"}\n\n{"source_uri": "b", "seed": 1.5}', "line 3: 1.5"),
    ],
)
def test_value_of_another_type_than_a_stage_declares_is_refused_with_its_line(
    tmp_path, name, rows, place
):
    (tmp_path / name).write_text(rows)
    with pytest.raises(UsageError) as caught:
        list(plan_parts(toy_plan(row={"instruction": "x"}), read_input(str(tmp_path / name))))
    assert "column 'seed'" in str(caught.value)
    assert str(caught.value).endswith(place)


def test_csv_seeds_are_numbers_digit_for_digit(tmp_path):
    seeds = ["7", " 8", "9.0", "1e3", "9007199254740993", "9007199254740993.0"]
    rows = "".join(f"{i}.png,x,{seed}\n" for i, seed in enumerate(seeds))
    (tmp_path / "t.csv").write_text(f"source_uri,instruction,seed\n{rows}")
    given = read_input(str(tmp_path / "t.csv"))
    found = [seed for part, _ in plan_parts(toy_plan(), given) for seed in part["seed"].to_pylist()]
    assert found == [7, 8, 9, 1000, 9007199254740993, 9007199254740993]


def test_csv_cells_over_lines_that_are_no_rows_are_texts(tmp_path):
    text = 'source_uri,instruction\na.png,"make it red,\nthen blue, as in b.png"\nc.png,x\n'
    (tmp_path / "t.csv").write_text(text)
    wanted = ["make it red,\nthen blue, as in b.png", "x"]
    assert read(tmp_path / "t.csv")["instruction"].to_pylist() == wanted


def test_csv_quotes_within_texts_and_blanks_after_cells_are_kept(tmp_path):
    cells = ['5" wide', 'a"b"', '"red" ', ' "red"', '"two\nlines" ']
    rows = "".join(f"{i}.png,{cell},1\n" for i, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"source_uri,instruction,id\n{rows}")
    wanted = ['5" wide', 'a"b"', "red ", ' "red"', "two\nlines "]
    assert read(tmp_path / "t.csv")["instruction"].to_pylist() == wanted


@pytest.mark.parametrize(
    ("name", "data", "places"),
    [
        ("t.csv", b"source_uri,a,b,a\nx,1,2,3\n", "columns 2 and 4 are both named 'a'"),
        ("t.csv", b"source_uri,a,,\nx,1,2,3\n", "columns 3 and 4 are both named ''"),
    ],
)
def test_columns_of_one_name_are_refused_with_their_places(tmp_path, name, data, places):
    (tmp_path / name).write_bytes(data)
    assert places in refused(tmp_path / name)


def test_parquet_columns_of_one_name_are_refused_with_their_places(tmp_path):
    columns = [pa.array(["x"]), pa.array([1]), pa.array([2])]
    table = pa.Table.from_arrays(columns, names=["source_uri", "a", "a"])
    pq.write_table(table, tmp_path / "t.parquet")
    assert "columns 2 and 3 are both named 'a'" in refused(tmp_path / "t.parquet")


def test_text_in_utf_16_without_a_mark_is_refused_in_words(tmp_path):
    for name, text in (("t.csv", "source_uri\nx\n"), ("t.jsonl", '{"source_uri": "x"}')):
        for encoding in ("utf-16-le", "utf-16-be"):
            (tmp_path / name).write_bytes(text.encode(encoding))
            assert "UTF-16 without a byte order mark" in refused(tmp_path / name)


def test_damaged_parquet_is_refused_in_words(tmp_path):
    pq.write_table(pa.table({"source_uri": ["x"] * 50}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    for damaged in (data[:-60] + b"\xff" * 52 + data[-8:], data[:-8], data[:9], b""):
        (tmp_path / "t.parquet").write_bytes(damaged)
        assert "cannot be read as a table" in refused(tmp_path / "t.parquet")


@pytest.mark.parametrize("bytes_type", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_columns_of_bytes_are_left_out_unless_they_are_asked_for(tmp_path, bytes_type):
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "source_uri": ["x.png"],
            "raw.data": pa.array([b"\0\xff"], bytes_type),
            "picture": pa.array([{"bytes": b"abc", "path": "x"}], picture),
            "note": ["n"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_input(str(tmp_path / "t.parquet"))
    assert found.table.column_names == ["source_uri", "note"]
    assert any(
        "'raw.data' holds bytes" in note and "--keep raw.data" in note for note in found.notes
    )
    kept = read_input(str(tmp_path / "t.parquet"), keep=["raw.data", "picture"]).table
    assert kept.to_pylist() == table.to_pylist()
    assert "--keep row" in refused(tmp_path / "t.parquet", keep=["row"])
