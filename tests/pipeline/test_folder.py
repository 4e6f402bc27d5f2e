"""One way through the rows of a run: in order, part by part, of some columns and rows."""

import threading

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

NUM_PARTS, PART_ROWS = 9, 3
STATUSES = ["accepted", None, "failed"]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(Storage(str(tmp_path)))
    for part in range(NUM_PARTS):
        numbers = list(range(part * PART_ROWS, (part + 1) * PART_ROWS))
        table = pa.table({"number": numbers, "status": STATUSES, "text": ["x"] * PART_ROWS})
        folder.write_part("manifest", part, table)
        folder.write_part("plan", part, table.select(["number"]))
    return folder


def test_rows_come_in_the_order_of_the_parts(folder):
    assert [row["number"] for row in folder.rows()] == list(range(NUM_PARTS * PART_ROWS))
    assert list(folder.rows(folder="plan")) == list(folder.rows(["number"]))


def test_rows_have_the_columns_asked_for_also_where_others_decide(folder):
    (first, *_) = folder.rows(["text", "number"], {"status": "failed"})
    assert first == {"text": "x", "number": 2}


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ({}, [0, 1, 2]),
        ({"status": "accepted"}, [0]),
        ({"status": ["accepted", "failed"]}, [0, 2]),
        ({"status": None}, [1]),
        ({"status": "failed", "text": "x"}, [2]),
        ({"status": "failed", "text": "y"}, []),
        (pc.starts_with(pc.field("status"), "acc"), [0]),
    ],
)
def test_rows_are_those_that_the_condition_holds_for(folder, where, places):
    numbers = [row["number"] for row in folder.rows(["number"], where)]
    parts = range(NUM_PARTS)
    assert numbers == [part * PART_ROWS + place for part in parts for place in places]


def test_tables_are_of_the_parts_asked_for_also_where_no_row_is(folder):
    tables = list(folder.tables(["number"], {"status": "rejected"}, parts=[7, 2]))
    assert [(part, table.num_rows) for part, table in tables] == [(7, 0), (2, 0)]


def test_tables_that_are_left_early_read_little_and_leave_no_thread(folder, monkeypatch):
    paths = []
    read = Storage.read

    def counted(storage, path):
        paths.append(path)
        return read(storage, path)

    monkeypatch.setattr(Storage, "read", counted)
    before = threading.active_count()
    tables = folder.tables()
    next(tables)
    tables.close()
    assert len(paths) < NUM_PARTS
    assert threading.active_count() == before
