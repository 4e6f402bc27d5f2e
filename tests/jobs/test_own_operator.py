"""An operator of one's own, written with the public names alone."""

from collections.abc import Sequence
from typing import ClassVar

import overpaint.pipeline
import pytest
from overpaint.jobs import run
from overpaint.pipeline import (
    Answer,
    Column,
    Kind,
    Operator,
    Picture,
    Plan,
    Policy,
    Rejected,
    Row,
    RowError,
    Stage,
    columns,
    decode,
    encode,
    score,
)
from toy_runs import write_sources

REDNESS = score("redness", "mean red of the edited image")


class Redden(Operator[None]):
    """Paints the source red."""

    kind: ClassVar[Kind] = "edit"

    level: int = 255
    """Red of every pixel, 0 to 255."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source and what to do."""
        return (columns.SOURCE_IMAGE, columns.INSTRUCTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The edited image and its redness."""
        return (columns.EDITED_IMAGE, REDNESS)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Answers each row by its instruction."""
        return [self._answer(row) for row in rows]

    def _answer(self, row: Row) -> Answer:
        if row["instruction"] == "fail":
            return RowError("too_hard", "the instruction asks for too much")
        if row["instruction"] == "reject":
            return Rejected("not_wanted", "the instruction asks for nothing")
        rgb = decode(row["source_image"]).rgb.copy()
        rgb[..., 0] = self.level
        return {"edited_image": encode(Picture(rgb)), "redness": float(self.level)}


def test_public_names_are_sorted_and_there():
    names = overpaint.pipeline.__all__
    assert names == sorted(names)
    assert all(hasattr(overpaint.pipeline, name) for name in names)


@pytest.mark.parametrize("level", [10, 200])
def test_operator_of_ones_own_runs(tmp_path, level):
    instructions = ["paint", "fail", "reject"]
    names = write_sources(tmp_path / "input", 3)
    table = "".join(f"{n},{i}\n" for n, i in zip(names, instructions, strict=True))
    (tmp_path / "input" / "rows.csv").write_text(f"source_uri,instruction\n{table}")
    plan = Plan(
        name="redden",
        stages=(Stage(operator=Redden(level=level)),),
        policy=Policy.model_validate({"redness": {"min": 100}}),
    )
    folders = {"input": str(tmp_path / "input/rows.csv"), "output": str(tmp_path / "run")}
    result = run(plan, **folders, ray=False)
    ended = {row["instruction"]: row for row in result.rows()}
    is_accepted = level >= 100
    assert ended["paint"]["status"] == ("accepted" if is_accepted else "rejected")
    assert ended["paint"]["redness"] == level
    assert (ended["fail"]["status"], ended["fail"]["error_code"]) == ("failed", "too_hard")
    assert (ended["reject"]["status"], ended["reject"]["stage"]) == ("rejected", "Redden")
