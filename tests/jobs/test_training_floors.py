"""The shipped checkpoints hold a floor on a few unseen scenes, a little under what was measured."""

from pathlib import Path

import pytest
from overpaint.jobs.training.bench import measure_checkpoints
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


def test_checkpoints_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only has 'vea'; known are vae"):
        measure_checkpoints(tmp_path, ["vea"], num_scenes=4, sheets=None)
