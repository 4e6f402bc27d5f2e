"""Runs of transformer editors end to end: sources of two sizes, and references in their order."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.pipeline.images import decode
from PIL import Image
from tiny_editors import SAVERS

RECIPE = """
name = "tiny"
[[stage]]
operator = "edit"
method = "transformer"
checkpoint = "{checkpoint}"
num_inference_steps = 1
resolution = 128
batch_size = 2
"""
SIZES = {"wide.png": (96, 48), "tall.png": (60, 80)}


def _pictures(folder):
    for number, (name, size) in enumerate({**SIZES, "a.png": (64, 64), "b.png": (80, 64)}.items()):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def _rows():
    rows = [{"source_uri": name, "instruction": f"make {name} red"} for name in SIZES]
    rows += [{**rows[0], "references": order} for order in (["a.png", "b.png"], ["b.png", "a.png"])]
    return [{**row, "mask_uri": None} for row in rows]


@pytest.mark.parametrize(
    "kind",
    [
        "Flux2KleinPipeline",
        pytest.param("LongCatImageEditPipeline", marks=pytest.mark.slow),
        pytest.param("FluxFillPipeline", marks=pytest.mark.slow),
    ],
)
def test_recipe_end_to_end(kind, tmp_path):
    checkpoint = SAVERS[kind](tmp_path / "weights")
    _pictures(tmp_path)
    Image.new("L", (96, 48), 255).save(tmp_path / "mask.png")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(checkpoint=checkpoint))
    table = tmp_path / "rows.jsonl"
    rows = _rows()
    if kind == "FluxFillPipeline":  # it is given the mask, and rows without one fail
        rows[0]["mask_uri"] = "mask.png"
    table.write_text("\n".join(map(json.dumps, rows)))
    given = ["--input", str(table), "--output", str(tmp_path / "run"), "--no-ray"]
    main(["run", str(tmp_path / "recipe.toml"), *given])
    ended = pq.read_table(tmp_path / "run" / "manifest").to_pylist()
    if kind == "FluxFillPipeline":
        codes = sorted(str(row["error_code"]) for row in ended)
        assert codes == ["None", "mask_missing", "mask_missing"]
        return
    assert all(row["status"] == "accepted" for row in ended), ended
    for row in ended:
        edited = decode((tmp_path / "run" / row["edited_uri"]).read_bytes())
        assert (edited.width_px, edited.height_px) == SIZES[row["source_uri"]]
        assert json.loads(row["params_json"])["editor"] in ("flux2_klein", "longcat_image_edit")
    if kind == "Flux2KleinPipeline":
        assert len({row["key"] for row in ended}) == 4
        wide = [row for row in ended if row["source_uri"] == "wide.png"]
        assert len({row["edited_sha256"] for row in wide}) == 3
