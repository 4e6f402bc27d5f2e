"""Stable Diffusion 1.5's real configuration, with random weights, by its path.

The weights of the hub take the same path through the same classes.
"""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from PIL import Image

pytestmark = pytest.mark.slow

RECIPE = """
[row]
source_prompt = "a rocket"
target_prompt = "a red rocket"
[[stage]]
operator = "invert"
checkpoint = "{folder}"
num_inference_steps = 2
resolution = 256
batch_size = 1
num_threads = 1
group = "model"
[[stage]]
operator = "edit"
checkpoint = "{folder}"
batch_size = 1
num_threads = 1
group = "model"
[group.model]
num_cpus = 1
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The pipeline as the hub lays it out: fp16 safetensors of 0.98 billion random weights."""
    from overpaint.jobs.bench.random_checkpoint import save_random_checkpoint

    return save_random_checkpoint(tmp_path_factory.mktemp("sd15") / "stable-diffusion-v1-5")


def test_real_configuration_runs_a_photo_by_its_path(checkpoint, tmp_path):
    from skimage import data

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(data.rocket()).save(photos / "rocket.jpg")
    recipe = tmp_path / "sd15.toml"
    recipe.write_text(RECIPE.format(folder=checkpoint))
    output = tmp_path / "run"
    assert (
        main(["run", str(recipe), "--input", str(photos), "--output", str(output), "--no-ray"]) == 0
    )
    (row,) = pq.read_table(output / "manifest").to_pylist()
    assert (row["status"], row["error_message"]) == ("accepted", None)
    assert row["checkpoint"] == str(checkpoint)
    edited = Image.open(io.BytesIO((output / row["edited_uri"]).read_bytes()))
    assert edited.size == (row["width_px"], row["height_px"]) == (640, 427)
    assert np.asarray(edited).std() > 0
