"""A method of a user's own: one file outside the repository, named by a recipe."""

import importlib
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from method_cases import (
    STEPS,
    check_cost,
    check_outside_is_the_source,
    check_rows_are_independent,
)
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.edit import Edit
from overpaint.pipeline.conditions import STROKES

METHOD = '''"""SDEdit from strokes (arXiv 2108.01073): starts from noise on painted strokes."""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import STROKES
from overpaint.pipeline.cost import Cost
from pydantic import Field


class StrokeEdit(TextGuided, Framed):
    """Noise on strokes, then denoising towards the target prompt."""

    papers = ("2108.01073",)
    family = "F01"
    edit_types = ("color",)
    needs = (STROKES,)

    strength: float = Field(default=0.7, gt=0, le=1)
    """Share of the steps that are walked."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the strokes, which are encoded beside the source."""
        return super().cost(num_inference_steps) + Cost(vae_encode=1)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise on the strokes."""
        strokes = batch.encode([request.values["strokes"] for request in batch.requests])
        level = batch.steps[0].alpha_bar
        start = level**0.5 * strokes + (1.0 - level) ** 0.5 * batch.noise
        return Sampling(start_bchw=start, hooks=[keep_outside(batch)])
'''
RECIPE = """
name = "own"
[[stage]]
operator = "edit"
method = "{method}"
checkpoint = "papercut"
num_inference_steps = 4
batch_size = 4
group = "all"
{more}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the method's file; not in the repository, and not installed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_methods.py").write_text(METHOD)
    unfinished = METHOD[: METHOD.index("    def sampling")]
    (folder / "my_unfinished.py").write_text(unfinished)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def overpaint(place, *arguments):
    command = [sys.executable, "-m", "overpaint.jobs.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def test_own_method_is_at_most_40_lines():
    assert len(METHOD.splitlines()) <= 40


def test_own_method_runs_from_a_recipe_and_its_condition_is_fetched_and_hashed(place):
    write_dataset(place / "drawn", rows=4, seed=2)
    rows = (place / "drawn/rows.jsonl").read_text().splitlines()
    stroked = [line.replace('"target_uri"', '"strokes_uri"') for line in rows]
    (place / "drawn/rows.jsonl").write_text("\n".join(stroked) + "\n")
    (place / "own.toml").write_text(RECIPE.format(method="my_methods:StrokeEdit", more=""))
    arguments = ("run", "own.toml", "--no-ray", "--input", "drawn", "--output", "out")
    ended = overpaint(place, *arguments)
    assert ended.returncode == 0, ended.stderr
    manifest = pq.read_table(place / "out/manifest/part-00000.parquet").to_pylist()
    assert [row["status"] for row in manifest] == ["accepted"] * 4
    assert {row["method"] for row in manifest} == {"my_methods:StrokeEdit"}
    assert all(len(row["strokes_sha256"]) == 64 for row in manifest)


def test_own_method_is_shown_with_its_needs_and_fields(place):
    shown = overpaint(place, "methods", "my_methods:StrokeEdit")
    assert shown.returncode == 0, shown.stderr
    for words in ("strokes", "2108.01073", "strength", "forward"):
        assert words in shown.stdout


@pytest.mark.parametrize(
    ("method", "more", "wanted"),
    [
        ("my_methods:StrokeEdit", "strenth = 0.5", "did you mean 'strength'"),
        ("my_methods:StrokEdit", "", "did you mean 'StrokeEdit'"),
        ("no_methods:StrokeEdit", "", "cannot import 'no_methods'"),
        ("my_methods:Field", "", "no method 'Field'"),
        ("my_unfinished:StrokeEdit", "", "neither `sampling` nor `edited`"),
    ],
)
def test_own_method_that_does_not_fit_is_refused_before_anything_is_started(
    method, more, wanted, place
):
    (place / "wrong.toml").write_text(RECIPE.format(method=method, more=more))
    ended = overpaint(place, "run", "wrong.toml", "--input", "drawn", "--output", "no")
    assert ended.returncode == 2
    assert wanted in ended.stderr
    assert not (place / "no").exists()


def test_own_method_without_its_condition_in_the_table_is_refused(place):
    write_dataset(place / "plain", rows=2, seed=2)
    (place / "own.toml").write_text(RECIPE.format(method="my_methods:StrokeEdit", more=""))
    ended = overpaint(place, "run", "own.toml", "--input", "plain", "--output", "no")
    assert ended.returncode == 2
    assert "strokes" in ended.stderr


@pytest.fixture
def own_edit(place, checkpoint_of):
    importlib.import_module("my_methods")
    return Edit(
        method="my_methods:StrokeEdit",
        checkpoint=checkpoint_of("StableDiffusionPipeline"),
        num_inference_steps=STEPS,
        batch_size=3,
        mask_dilate_px=2,
    )


@pytest.fixture
def stroked_row(row):
    def make(number, **options):
        strokes = row(number + 50, **options)["source_image"]
        return {**row(number, **options), STROKES.column.name: strokes}

    return make


@pytest.mark.parametrize(
    "check", [check_rows_are_independent, check_cost, check_outside_is_the_source]
)
def test_own_method_has_the_properties_of_every_method(check, own_edit, stroked_row):
    check(own_edit, stroked_row)
