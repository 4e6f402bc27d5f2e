"""The shipped checkpoints hold a floor on a few unseen scenes, a little under what was measured."""

import shutil
from pathlib import Path

import pytest
from overpaint.jobs.training.bench import measure_checkpoints, write_cards
from overpaint.jobs.training.history import read_history
from overpaint.operators import checkpoints

# Checkpoint, figure, scenes, floor.
FLOORS = [
    ("vae", "psnr_db_mean", 64, 30.0),
]


@pytest.mark.parametrize(("name", "figure", "num_scenes", "floor"), FLOORS)
def test_checkpoint_holds_its_floor(
    name: str, figure: str, num_scenes: int, floor: float, tmp_path: Path
) -> None:
    shipped = Path(checkpoints.resolve("papercut", name)).parent
    rows = measure_checkpoints(shipped, [name], num_scenes=num_scenes, sheets=tmp_path)
    assert {row["figure"]: row["value"] for row in rows}[figure] >= floor
    assert (tmp_path / f"{name}.png").is_file()


def test_figures_stand_in_the_model_card_beside_how_it_was_trained(tmp_path: Path) -> None:
    copied = tmp_path / "vae"
    shutil.copytree(checkpoints.resolve("papercut", "vae"), copied)
    rows = measure_checkpoints(tmp_path, ["vae"], num_scenes=4, sheets=None)
    write_cards(tmp_path, rows)
    card = (copied / "README.md").read_text(encoding="utf-8")
    assert f"| psnr_db_mean | {rows[0]['value']:.3f} | 34.000 | 4 |" in card
    assert all(f"- {training}\n" in card for training in read_history(copied))


def test_checkpoints_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only has 'vea'; known are vae"):
        measure_checkpoints(tmp_path, ["vea"], num_scenes=4, sheets=None)
