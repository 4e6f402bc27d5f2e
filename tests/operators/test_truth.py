"""Success against the truth, on the drawn world and the VAE that comes with it."""

import json

import pytest
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.truth import Truth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "drawn"
    write_dataset(folder, rows=2, seed=5)
    return folder, json.loads((folder / "rows.jsonl").read_text().splitlines()[0])


@pytest.fixture(scope="module")
def model():
    return Truth().load()


def _answer(world, model, edited, **changed):
    folder, row = world
    given = {
        "source_image": (folder / row["source_uri"]).read_bytes(),
        "edited_image": (folder / edited).read_bytes(),
        "target_uri": row["target_uri"],
        "in_mask_uri": row["mask_uri"],
        "base_uri": str(folder),
        **changed,
    }
    (answer,) = Truth().run([given], model)
    return answer


def test_true_target_is_a_perfect_edit_and_the_oracle_succeeds(world, model):
    answer = _answer(world, model, world[1]["target_uri"])
    assert answer["truth_gain"] == 1.0
    assert answer["truth_success"]
    assert 0.5 <= answer["oracle_gain"] < 1.0
    assert answer["oracle_success"]


def test_unchanged_source_is_no_success(world, model):
    answer = _answer(world, model, world[1]["source_uri"])
    assert answer["truth_gain"] == 0.0
    assert answer["truth_outside_psnr_db"] == 100.0
    assert not answer["truth_success"]


def test_row_without_a_truth_has_no_figures(world, model):
    answer = _answer(world, model, world[1]["source_uri"], target_uri=None, in_mask_uri=None)
    assert set(answer.values()) == {None}
