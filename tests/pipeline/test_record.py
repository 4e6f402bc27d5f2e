"""The record of a run: written, read, and held against what is asked for now."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.folder import RECIPE, RunFolder
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.store import Storage
from toy_runs import toy_plan

ROWS = "source_uri\na.png\n"


@pytest.fixture
def folder(tmp_path):
    return RunFolder(Storage(str(tmp_path / "run")))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def record_of(table, plan=None, **request):
    return RunRecord.of(plan or toy_plan(), InputRequest(str(table), **request), "/images")


def test_record_is_read_as_it_was_written(folder, table):
    record = record_of(table, limit=3, mapping={"file": "source_uri"}, base_uri="/elsewhere")
    record.write(folder)
    assert RunRecord.read(folder) == record
    assert record.request.as_json() == {
        "input": str(table),
        "limit": 3,
        "mapping": {"file": "source_uri"},
        "base": "/elsewhere",
    }


def test_folder_without_a_run_is_said_to_have_none(folder):
    assert RunRecord.find(folder) is None
    with pytest.raises(UsageError, match="no run there"):
        RunRecord.read(folder)


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"name": "x"}', b"\xff"])
def test_file_that_is_not_a_record_is_named(folder, text):
    folder.storage.write(RECIPE, text)
    with pytest.raises(UsageError) as caught:
        RunRecord.find(folder)
    assert folder.storage.at(RECIPE) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_record_of_an_earlier_version_with_fewer_fields_is_readable(folder, table):
    content = record_of(table).model_dump(mode="json")
    old = {name: content[name] for name in ("name", "base_uri", "recipe", "versions")}
    folder.write_json(RECIPE, {**old, "unknown": 1})
    assert RunRecord.read(folder).versions == content["versions"]


def test_differences_are_none_for_the_same_request_and_name_what_changed(table):
    record = record_of(table)
    assert record.differences(record_of(table)) == []
    assert record.differences(record_of(table, limit=1)) == ["limit"]
    assert record.differences(record_of(table, toy_plan(row={"caption": "x"}))) == ["row"]
    table.write_text(ROWS + "b.png\n")
    assert record.differences(record_of(table)) == ["the input's content"]


def test_codec_that_writes_other_bytes_is_a_version_that_differs(table):
    record = record_of(table)
    assert record.version_differences() == []
    other = record.model_copy(update={"versions": {**record.versions, "png": "zlib 1.2.13, RLE"}})
    (difference,) = other.version_differences()
    assert difference.startswith("png zlib 1.2.13, RLE then, ")


def planned_record(table, **request):
    asked = InputRequest(str(table), **request)
    return RunRecord.planned(toy_plan(), asked, asked.read())


def test_table_that_was_only_touched_is_no_difference(table):
    record = planned_record(table)
    os.utime(table, ns=(1, 1))
    assert record.input_version != record_of(table).input_version
    assert record.differences(record_of(table)) == []
    table.write_text(ROWS.replace("a", "b"))
    os.utime(table, ns=(1, 1))
    assert record.differences(record_of(table)) == ["the input's content"]
    table.unlink()
    assert record.differences(record_of(table)) == ["the input's content"]


def test_table_of_a_run_that_has_no_hash_of_it_goes_by_its_version(table):
    old = planned_record(table).model_copy(update={"input_sha256": None})
    assert old.differences(record_of(table)) == []
    os.utime(table, ns=(1, 1))
    assert old.differences(record_of(table)) == ["the input's content"]


def test_table_in_several_files_differs_with_each_of_them(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        pq.write_table(pa.table({"source_uri": [f"{shard}.png"]}), folder / f"{shard}.parquet")
    record = planned_record(folder)

    def differences():
        now = InputRequest(str(folder))
        return record.differences(RunRecord.of(toy_plan(), now, "", is_sharded=record.is_sharded))

    os.utime(folder / "1.parquet", ns=(1, 1))
    assert differences() == []
    pq.write_table(pa.table({"source_uri": ["2.png"]}), folder / "2.parquet")
    assert differences() == ["the input's content"]


def test_columns_that_are_kept_are_part_of_what_is_asked_for(table):
    plain, kept = record_of(table), record_of(table, keep=("source_uri",))
    assert plain.differences(kept) == kept.differences(plain) == ["keep"]
    assert "keep" not in plain.request.as_json(), "runs of earlier versions have another identity"
    assert kept.request.keep == ("source_uri",)


def test_policy_that_is_accepted_later_leaves_the_identity(table):
    record = record_of(table)
    accepted = record.with_policy(Policy.model_validate({"brightness": {"min": 0.5}}))
    assert accepted.recipe["policy"]["brightness"]["min"] == 0.5
    assert record.differences(accepted) == []


def test_history_grows_with_every_version_that_is_superseded(table):
    first, second = record_of(table), record_of(table, limit=1)
    third = record_of(table, limit=2).superseding(second.superseding(first))
    assert [entry["identity"] for entry in third.earlier] == [first.identity, second.identity]
