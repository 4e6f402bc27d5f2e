"""The example of training: a finished run's pairs as a stream into Ray Train, without an export."""

from importlib.resources import files

import numpy as np
import pytest
from overpaint.jobs import run
from overpaint.jobs.run_images import RunImages
from toy_runs import toy_plan, write_sources

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_sources(folder / "input", 10)
    plan = toy_plan(row={"instruction": "make it brighter"})
    return run(plan, input=str(folder / "input"), output=str(folder / "run"), ray=False)


def test_stream_has_the_accepted_pairs_decoded(ray_of_module, finished):
    from overpaint.jobs.examples.train_on_pairs import pairs

    rows = pairs(finished.uri).take_all()
    accepted = list(finished.rows(where={"status": "accepted"}))
    assert len(rows) == len(accepted) == 10
    images = RunImages(finished.folder)
    for name in ("source", "edited"):
        seen = {row[name].tobytes() for row in rows}
        wanted = set()
        for row in accepted:
            small = images.open(row, f"{name}_image").image().resize((64, 64))
            wanted.add((np.asarray(small, np.float32).transpose(2, 0, 1) / 127.5 - 1).tobytes())
        assert seen == wanted
    assert all(row["words"].shape == (16,) for row in rows)


def test_trainer_takes_two_steps_on_the_stream(ray_of_module, finished, tmp_path):
    from overpaint.jobs.examples.train_on_pairs import loop, pairs
    from ray.train import RunConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        loop,
        train_loop_config={"steps": 2},
        datasets={"train": pairs(finished.uri)},
        run_config=RunConfig(storage_path=str(tmp_path / "train")),
    )
    losses = trainer.fit().return_value
    assert len(losses) == 2
    assert 0 < losses[1] != losses[0] > 0


def test_example_is_no_longer_than_it_promises():
    path = files("overpaint.jobs.examples") / "train_on_pairs.py"
    assert len(path.read_text().splitlines()) <= 60
