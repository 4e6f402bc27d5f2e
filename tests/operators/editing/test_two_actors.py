"""Transformer editors on Ray: the bytes of two actors are those of one process."""

import pytest
from needs import NEEDS_QUANTIZATION
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

KINDS = [
    "Flux2KleinPipeline",
    "Flux2KleinKVPipeline",
    "Flux2KleinInpaintPipeline",
    "Flux2Pipeline",
    "FluxKontextPipeline",
    "FluxKontextInpaintPipeline",
    "FluxFillPipeline",
    "LongCatImageEditPipeline",
]
"""The classes whose pipelines make small pictures; others have a megapixel of their own."""
RECIPE = """
name = "two-actors"
[[stage]]
operator = "edit"
group = "editor"
method = "transformer"
checkpoint = "{checkpoint}"
num_inference_steps = 2
resolution = 64
batch_size = 2
{fields}
[group.editor]
num_cpus = 1
actors = [2, 2]
[limits]
task_rows = 2
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=8, seed=3)
    return folder


def images_of(drawn, recipe, output, *options):
    given = ["--input", str(drawn), "--output", str(output), *options]
    assert main(["run", str(recipe), *given]) == 0
    return {path.name: path.read_bytes() for path in (output / "images").rglob("*.png")}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *((kind, "") for kind in KINDS),
        pytest.param(KINDS[0], 'quantization = "bitsandbytes_4bit"', marks=NEEDS_QUANTIZATION),
    ],
)
def test_two_actors_give_the_bytes_of_one_process(kind, fields, checkpoint_of, drawn, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(checkpoint=checkpoint_of(kind), fields=fields))
    one = images_of(drawn, recipe, tmp_path / "one", "--no-ray")
    two = images_of(drawn, recipe, tmp_path / "two", "--num-cpus", "4")
    assert len(set(one.values())) > 4
    assert one == two
