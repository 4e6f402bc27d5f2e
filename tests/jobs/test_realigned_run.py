"""A run whose editor shifts pictures: measured, corrected, stored, accepted by its policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from overpaint.jobs import run
from overpaint.jobs.bench.align import photograph
from overpaint.operators.align import Align
from overpaint.operators.fidelity import Fidelity
from overpaint.operators.phash import Phash
from overpaint.operators.realign import Realign
from overpaint.pipeline import (
    Answer,
    Column,
    Kind,
    Operator,
    Picture,
    Plan,
    Policy,
    Row,
    Stage,
    columns,
    decode,
    encode,
)
from PIL import Image

SHIFTS_PX = {"stay": 0, "shift": 3}


class Shifter(Operator[None]):
    """Moves the source to the right, and hands on a mask of its middle."""

    kind: ClassVar[Kind] = "edit"

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source and what to do."""
        return (columns.SOURCE_IMAGE, columns.INSTRUCTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The edited image."""
        return (columns.EDITED_IMAGE,)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Shifts each source."""
        return [self._answer(row) for row in rows]

    def _answer(self, row: Row) -> Answer:
        source = decode(row["source_image"]).rgb
        moved = np.roll(source, SHIFTS_PX[row["instruction"]], axis=1)
        return {"edited_image": encode(Picture(moved))}


@pytest.fixture
def table(tmp_path) -> Path:
    image = Image.fromarray(photograph("astronaut")).reduce(4)
    (tmp_path / "input").mkdir()
    image.save(tmp_path / "input" / "one.png")
    lines = [f"one.png,{instruction}\n" for instruction in SHIFTS_PX]
    file = tmp_path / "input" / "rows.csv"
    file.write_text(f"source_uri,instruction\n{''.join(lines)}")
    return file


def rows_of(table: Path, output: Path, *operators: Operator) -> tuple[dict[str, dict], Path]:
    plan = Plan(
        name="shifted",
        stages=tuple(Stage(operator=operator) for operator in (Shifter(), *operators)),
        policy=Policy.model_validate({"align_shift_px": {"max": 0.5}}),
    )
    result = run(plan, input=str(table), output=str(output), ray=False)
    return {row["instruction"]: dict(row) for row in result.rows()}, output


def test_shifted_edits_are_rejected_by_the_policy(table, tmp_path):
    rows, _ = rows_of(table, tmp_path / "run", Align(), Phash(), Fidelity())
    assert {name: row["status"] for name, row in rows.items()} == {
        "stay": "accepted",
        "shift": "rejected",
    }
    assert rows["shift"]["align_dx_px"] == pytest.approx(3, abs=0.05)
    assert rows["shift"]["reject_reasons"] == ["align_shift_px > 0.5"]
    assert rows["stay"]["phash_distance"] == 0
    assert rows["stay"]["ssim"] == pytest.approx(1)
    assert rows["stay"]["phash_source"] == rows["shift"]["phash_source"]


def test_corrected_edits_are_what_is_stored_and_measured(table, tmp_path):
    rows, output = rows_of(table, tmp_path / "run", Realign(), Align())
    assert {row["status"] for row in rows.values()} == {"accepted"}
    assert rows["shift"]["realigned"] is True
    assert rows["shift"]["realign_dx_px"] == pytest.approx(3, abs=0.05)
    assert rows["shift"]["align_shift_px"] < 0.05
    source = np.asarray(Image.open(table.parent / "one.png").convert("RGB")).astype(int)
    stored = np.asarray(Image.open(output / rows["shift"]["edited_uri"])).astype(int)
    assert np.abs(stored - source)[:, 3:-3].mean() < 1
    assert rows["stay"]["realigned"] is False
