"""The benchmark of alignment, on a few pictures."""

import json

import pytest
from overpaint.jobs.bench.align import measure_align
from overpaint.jobs.cli import main


def test_benchmark_measures_drawn_edits_of_every_type():
    rows = list(measure_align(1, ()))
    names = [row["pictures"] for row in rows]
    assert len(names) == 26
    assert names[12] == names[25] == "papercut: all"
    assert rows[12]["rows"] == 24
    assert all(row["auc"] is None or 0 <= row["auc"] <= 1 for row in rows)
    assert all(set(row) == set(rows[0]) for row in rows)


@pytest.mark.slow
def test_shift_of_one_pixel_is_found_in_every_type_of_drawn_edit(tmp_path):
    file = tmp_path / "align.json"
    pictures = ["--edits", "8", "--photographs", "astronaut,coins"]
    assert main(["bench", "align", *pictures, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    masked = next(row for row in rows if row["pictures"] == "papercut: all")
    assert masked["auc"] >= 0.99
    for row in rows[26:]:
        assert row["measured"] >= 0.9
        assert row["largest_error_px"] < 0.1
        assert row["largest_scale_error"] < 0.01
