"""Exports of a real run: papercut scenes, edited twice each by the instruction checkpoint."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from export_runs import exported
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image

RECIPE = """
name = "instructed"
[row]
candidates = 2
[[stage]]
operator = "edit"
method = "instruct_pix2pix"
checkpoint = "papercut"
num_inference_steps = 3
batch_size = 4
group = "all"
[[stage]]
operator = "score"
checkpoint = "papercut"
batch_size = 4
group = "all"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("real")
    write_dataset(folder / "input", rows=4, seed=3)
    (folder / "recipe.toml").write_text(RECIPE)
    arguments = ["--input", str(folder / "input"), "--output", str(folder / "run"), "--no-ray"]
    assert main(["run", str(folder / "recipe.toml"), *arguments]) == 0
    return str(folder / "run")


def test_pairs_of_a_real_run_are_its_pictures(run, tmp_path):
    facts = exported(run, tmp_path / "x", "ip2p")
    assert facts["examples"] == 8
    assert facts["policy"]["rank_by"] == "clip_sim_dir"
    assert main(["verify", str(tmp_path / "x")]) == 0
    folder = RunFolder(Storage(run))
    rows, images = {one["key"]: one for one in folder.rows()}, RunImages(folder)
    for one in pq.read_table(tmp_path / "x/data/train-00000.parquet").to_pylist():
        source = rows[one["key"]]
        assert one["edit_prompt"] == source["instruction"]
        for name, kind in (("input_image", "source_image"), ("edited_image", "edited_image")):
            pixels = np.asarray(Image.open(io.BytesIO(one[name]["bytes"])))
            assert np.array_equal(pixels, images.open(source, kind).rgb)
    card = (tmp_path / "x/README.md").read_text()
    assert "instruct_pix2pix" in card
    assert "papercut" in card


def test_best_and_preferences_of_a_real_run_go_by_its_scores(run, tmp_path):
    rows = list(RunFolder(Storage(run)).rows())
    best = {
        max((row["clip_sim_dir"], row["key"]) for row in rows if row["instruction"] == words)[1]
        for words in {row["instruction"] for row in rows}
    }
    exported(run, tmp_path / "x", "folders", best=True)
    assert {path.stem for path in (tmp_path / "x/train/targets").glob("*.png")} == best
    facts = exported(run, tmp_path / "y", "preference longcat")
    assert facts["examples"] == 4
    assert main(["verify", str(tmp_path / "y")]) == 0
