"""The benchmark of alignment, on a few pictures."""

import json

import pytest
from overpaint.jobs.bench.align import measure_align
from overpaint.jobs.cli import main


def test_benchmark_measures_drawn_edits_and_photographs():
    rows = list(measure_align(2, ("coins",)))
    names = [row["pictures"] for row in rows]
    assert names[12] == names[25] == "papercut: all"
    assert names[26:28] == ["coins: shift", "coins: scale"]
    assert all(row["auc"] is None or 0 <= row["auc"] <= 1 for row in rows)
    assert all(set(row) == set(rows[0]) for row in rows)


@pytest.mark.slow
def test_shift_of_one_pixel_is_found_in_every_type_of_drawn_edit(tmp_path):
    file = tmp_path / "align.json"
    assert main(["bench", "align", "--edits", "16", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    masked = next(row for row in rows if row["pictures"] == "papercut: all")
    assert masked["auc"] >= 0.99
    photographs = [row for row in rows if row["pictures"].endswith(": shift")]
    assert max(row["largest_error_px"] for row in photographs) < 0.1
