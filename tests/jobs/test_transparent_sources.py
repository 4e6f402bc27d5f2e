"""Sources with colours that transparency hides: models see none, and the edit keeps them all."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from PIL import Image

HIDDEN = ("black", "white", "blue")
RECIPE = """
name = "seen"
[row]
target_prompt = "a red circle"
seed = 7
[[stage]]
operator = "caption"
checkpoint = "papercut"
group = "all"
[[stage]]
operator = "mask"
method = "clipseg"
phrase_from = "caption"
threshold = 0.1
checkpoint = "papercut"
group = "all"
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
strength = 0.5
group = "all"
[[stage]]
operator = "score"
checkpoint = "papercut"
group = "all"
"""


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The rows of a run over one cut-out with three hidden colours, and its folder."""
    folder = tmp_path_factory.mktemp("hidden")
    write_dataset(folder / "drawn", rows=1, seed=0)
    image = Image.open(folder / "drawn/images/000000.png").convert("RGB")
    shape = Image.open(folder / "drawn/masks/000000.png").convert("L")
    (folder / "in").mkdir()
    for hidden in HIDDEN:
        flat = Image.new("RGB", image.size, hidden)
        flat.paste(image, mask=shape)
        flat.putalpha(shape)
        flat.save(folder / f"in/{hidden}.png")
    (folder / "in/rows.jsonl").write_text(
        "".join(json.dumps({"source_uri": f"{hidden}.png"}) + "\n" for hidden in HIDDEN)
    )
    (folder / "seen.toml").write_text(RECIPE)
    options = ("--no-ray", "--input", str(folder / "in"), "--output", str(folder / "run"))
    assert main(["run", str(folder / "seen.toml"), *options]) == 0
    return pq.read_table(folder / "run/manifest").to_pylist(), folder


def _over_white(path):
    image = Image.open(path).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image))


def test_models_say_the_same_of_pictures_that_look_the_same(edited):
    rows, folder = edited
    assert [row["status"] for row in rows] == ["accepted"] * len(HIDDEN)
    first, *others = rows
    for row in others:
        for name in ("caption", "mask_area", "clip_sim_image", "clip_sim_source"):
            assert row[name] == first[name]
        for name in ("mask_uri", "editable_mask_uri"):
            assert (folder / "run" / row[name]).read_bytes() == (
                folder / "run" / first[name]
            ).read_bytes()
        np.testing.assert_array_equal(
            _over_white(folder / "run" / row["edited_uri"]),
            _over_white(folder / "run" / first["edited_uri"]),
        )


def test_hidden_colours_and_alpha_outside_the_mask_are_the_sources(edited):
    rows, folder = edited
    for row in rows:
        source = np.asarray(Image.open(folder / "in" / row["source_uri"]))
        found = np.asarray(Image.open(folder / "run" / row["edited_uri"]))
        outside = np.asarray(Image.open(folder / "run" / row["editable_mask_uri"])) == 0
        assert outside.any()
        np.testing.assert_array_equal(found[outside], source[outside])
        np.testing.assert_array_equal(found[..., 3], source[..., 3])
