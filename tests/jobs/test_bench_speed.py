"""`bench speed` of a transformer editor, on a small checkpoint of FLUX.2 klein's shape."""

import json

import pytest
from overpaint.jobs.bench.random_klein import save_random_klein
from overpaint.jobs.cli import main


@pytest.mark.slow
def test_editor_is_timed_beside_a_bare_loop(tmp_path):
    checkpoint = save_random_klein(tmp_path / "klein", small=True)
    figures = tmp_path / "figures.json"
    words = ["bench", "speed", "--methods", "transformer", "--checkpoint", checkpoint]
    words += ["--side-px", "64", "--steps", "2", "--dtype", "float32", "--batch-size", "1"]
    assert main([*words, "--json", str(figures)]) == 0
    (row,) = json.loads(figures.read_text())["rows"]
    assert (row["method"], row["speed"], row["batch_size"]) == ("transformer", "exact", 1)
    assert row["images_s"] > 0
    assert 0 < row["busy_share"] <= 1
    assert 0 < row["share_of_bare"] < 2
    assert row["tflops"] > 0
    assert 0 < row["share_of_product"] < 1
