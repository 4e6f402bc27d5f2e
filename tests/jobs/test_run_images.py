"""Images of a run's rows: stored ones, and sources as far as the run itself read them."""

import pytest
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from report_runs import planned_row, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path, [planned_row(0)])


def test_images_of_a_row_are_its_source_its_mask_and_its_edit(folder):
    images = RunImages(folder)
    (row,) = folder.rows()
    centres = {
        name: tuple(images.open(row, name).rgb[32, 32])
        for name in ("source_image", "mask_image", "edited_image")
    }
    assert centres == {
        "source_image": (210, 60, 50),
        "mask_image": (255, 255, 255),
        "edited_image": (40, 90, 200),
    }


def test_row_without_an_edit_has_none_and_a_lost_one_is_missed(folder):
    images = RunImages(folder)
    (row,) = folder.rows()
    assert images.open({**row, "edited_uri": None}) is None
    folder.storage.remove([row["edited_uri"]])
    with pytest.raises(FileNotFoundError):
        images.open(row)


def test_source_is_read_only_where_the_run_has_read_it(folder):
    images = RunImages(folder)
    row = {"source_uri": "https://example.org/a.png", "source_sha256": None}
    assert images.uri(row, "source_image") is None
    row["source_sha256"] = "ab"
    assert images.uri(row, "source_image") == "https://example.org/a.png"
    with pytest.raises(RowError) as caught:
        images.open(row, "source_image")
    assert caught.value.code == "source_forbidden"


def test_source_without_a_base_is_not_looked_for_nearby(tmp_path):
    images = RunImages(RunFolder(Storage(str(tmp_path))))
    row = {"source_uri": "a.png", "source_sha256": "ab"}
    assert images.open(row, "source_image") is None
