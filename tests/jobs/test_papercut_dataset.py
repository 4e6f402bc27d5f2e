"""The folder that `overpaint papercut` writes."""

import hashlib
import json

import numpy as np
import pytest
from overpaint.jobs.papercut.dataset import parse_edit_types, write_dataset
from overpaint.pipeline.edit_types import EDIT_TYPES
from PIL import Image

COLUMNS = {
    "source_uri",
    "instruction",
    "source_prompt",
    "target_prompt",
    "edit_type",
    "mask_uri",
    "target_uri",
    "mask_phrase",
}

PINNED = {
    ("all", 3, ""): "bbf2b4eaa4512bf9",
    ("color,replace", 7, ""): "d724c15fa873ea5d",
    ("all", 3, "all"): "384612f63dde602b",
}


def _rows(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def _bytes(out):
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def _digest(out):
    digest = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        is_picture = path.suffix == ".png"
        digest.update(str(path.relative_to(out)).encode())
        digest.update(Image.open(path).tobytes() if is_picture else path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(("types", "seed", "conditions"), PINNED)
def test_write_dataset_pinned_arguments_give_pinned_tables_and_pixels(
    types, seed, conditions, tmp_path
):
    edit_types, wanted = types.split(","), [conditions] if conditions else []
    write_dataset(tmp_path, rows=12, seed=seed, edit_types=edit_types, conditions=wanted)
    assert _digest(tmp_path) == PINNED[types, seed, conditions]


def test_write_dataset_alternates_types_and_writes_every_file(tmp_path):
    write_dataset(tmp_path / "d", rows=6, seed=1)
    rows = _rows(tmp_path / "d")
    assert [row["edit_type"] for row in rows] == ["color", "replace"] * 3
    for row in rows:
        assert set(row) == COLUMNS
        source, target = (
            np.asarray(Image.open(tmp_path / "d" / row[name]))
            for name in ("source_uri", "target_uri")
        )
        mask = np.asarray(Image.open(tmp_path / "d" / row["mask_uri"]))
        assert source.shape == target.shape == (64, 64, 3)
        assert (source != target).any(axis=2)[mask == 255].any()
        assert not (source != target).any(axis=2)[mask == 0].any()
    assert len({row["source_uri"] for row in rows}) == 6
    assert len(_bytes(tmp_path / "d")) == 19


def test_write_dataset_same_arguments_give_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, rows=4, seed=seed, edit_types=["all"])
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert _bytes(tmp_path / "a") != _bytes(tmp_path / "c")


def test_write_dataset_all_types_have_boxes_and_points_where_they_mean_something(tmp_path):
    write_dataset(tmp_path, rows=12, seed=5, edit_types=["all"])
    rows = {row["edit_type"]: row for row in _rows(tmp_path)}
    assert set(rows) == set(EDIT_TYPES)
    assert {name for name, row in rows.items() if row["points"]} == {"move", "resize", "pose"}
    assert {name for name, row in rows.items() if row["boxes"]} == {"add", "move", "resize"}


@pytest.mark.parametrize("rows", [0, -3])
def test_write_dataset_without_rows_is_refused(tmp_path, rows):
    with pytest.raises(ValueError, match=f"rows is {rows}; it must be at least 1"):
        write_dataset(tmp_path / "d", rows=rows, seed=1)
    assert not (tmp_path / "d").exists()


def test_write_dataset_into_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="is not empty"):
        write_dataset(tmp_path, rows=1, seed=1)
    with pytest.raises(ValueError, match="is a file"):
        write_dataset(tmp_path / "mine.txt", rows=1, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_parse_edit_types_unknown_name_suggests_a_near_miss():
    with pytest.raises(ValueError, match="did you mean 'color'"):
        parse_edit_types(["colour"])
    with pytest.raises(ValueError, match="known: add, "):
        parse_edit_types(["zzz"])
    with pytest.raises(ValueError, match="is empty"):
        parse_edit_types([])
    assert parse_edit_types(["all"]) == EDIT_TYPES
