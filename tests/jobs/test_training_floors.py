"""The shipped checkpoints hold a floor on a few unseen scenes, a little under what was measured."""

import shutil
from pathlib import Path

import pytest
from overpaint.jobs.training.evaluate import MEASURES
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.measuring import measure_checkpoints, write_cards
from overpaint.operators.models.weights import Checkpoint

pytestmark = pytest.mark.slow

FLOORS: dict[str, tuple[int, dict[str, float]]] = {
    "vae": (64, {"psnr_db_mean": 34.0, "psnr_db_p5": 27.5}),
    "text_to_image": (16, {"attributes_right": 0.6, "check_accuracy": 0.9}),
    "instruction": (24, {"success": 0.9, "oracle_success": 0.95}),
    "inpainting": (16, {"success": 0.8, "oracle_success": 0.95}),
    "clip": (128, {"rank1_of_64": 0.93}),
    "clipseg": (64, {"iou_mean": 0.85}),
    "caption": (64, {"attributes_right": 0.9}),
    "judge": (128, {"auc": 0.9, "descriptions_right": 0.9}),
    "sam": (64, {"iou_box_mean": 0.92, "iou_point_mean": 0.88}),
}
"""Scenes and the least figures, by checkpoint."""


def test_every_measured_checkpoint_has_a_floor() -> None:
    shipped = Path(Checkpoint(name="papercut").path).parent
    assert FLOORS.keys() == {name for name in MEASURES if (shipped / name).is_dir()}


@pytest.mark.parametrize("name", FLOORS)
def test_checkpoint_holds_its_floor(name: str, tmp_path: Path) -> None:
    num_scenes, floors = FLOORS[name]
    shipped = Path(Checkpoint(name="papercut", part=name).path).parent
    rows = measure_checkpoints(shipped, [name], num_scenes=num_scenes, sheets=tmp_path)
    values = {row["figure"]: row["value"] for row in rows}
    assert {figure: values[figure] for figure in floors if values[figure] < floors[figure]} == {}
    assert (tmp_path / f"{name}.png").is_file()


def test_figures_stand_in_the_model_card_beside_how_it_was_trained(tmp_path: Path) -> None:
    copied = tmp_path / "vae"
    shutil.copytree(Checkpoint(name="papercut", part="vae").path, copied)
    rows = measure_checkpoints(tmp_path, ["vae"], num_scenes=4, sheets=None)
    write_cards(tmp_path, rows)
    card = (copied / "README.md").read_text(encoding="utf-8")
    assert f"| psnr_db_mean | {rows[0]['value']:.3f} | 34.000 | 4 |" in card
    assert all(f"- {training}\n" in card for training in read_history(copied))


def test_checkpoints_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only has 'vea'; known are vae"):
        measure_checkpoints(tmp_path, ["vea"], num_scenes=4, sheets=None)
