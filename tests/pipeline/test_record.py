"""The record of a run: written, read, and held against what is asked for now."""

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


def test_policy_that_is_accepted_later_leaves_the_identity(table):
    record = record_of(table)
    accepted = record.with_policy(Policy.model_validate({"brightness": {"min": 0.5}}))
    assert accepted.recipe["policy"]["brightness"]["min"] == 0.5
    assert record.differences(accepted) == []


def test_history_grows_with_every_version_that_is_superseded(table):
    first, second = record_of(table), record_of(table, limit=1)
    third = record_of(table, limit=2).superseding(second.superseding(first))
    assert [entry["identity"] for entry in third.earlier] == [first.identity, second.identity]
