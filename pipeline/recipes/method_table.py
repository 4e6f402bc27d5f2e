"""Tables of methods: how often each succeeds on each type of edit, as `bench methods` measures it.

A table is of one checkpoint, and holds the stages of each recipe that it has measured, so that
`method = "auto"` can take them from it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from overpaint.pipeline.errors import UsageError, first_error
from overpaint.pipeline.identity import digest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MaskUse = Literal["none", "given", "found"]
"""Mask of an edit: none, the row's own, or one that a stage finds."""
Training = Literal["edits", "pictures"]
"""Purpose that a model was trained for: to edit, or to draw pictures from words."""

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Cell(BaseModel):
    """Figures of one recipe on one type of edit."""

    model_config = _STRICT

    recipe: str
    """Name of the recipe."""
    method: str
    """Name of its editing method."""
    edit_type: str
    """Type of the edits."""
    mask: MaskUse
    """Mask of the edits."""
    training: Training
    """Purpose that the editor was trained for."""
    split: str
    """Split of the drawn world that the sources show."""
    seed: int
    """Seed of the edits."""
    rows: int
    """Number of edits."""
    fingerprint: str
    """Digest of the stages, their weights and the edits: an equal one needs no other measurement.
    """
    success: float
    """Share of edits that come near the truth and keep what is outside: `truth_success`."""
    oracle: float
    """The same share of the truth's own round trip through the VAE."""
    gain: float | None
    """Median of `truth_gain`; None where all rows failed."""
    outside_psnr_db: float | None
    """Median PSNR to the source outside the true mask, in dB."""
    attributes_right: float | None
    """Share of edits in which the captioner reads all that the target's caption says."""
    mask_iou: float | None
    """Mean IoU of found masks and the true ones; None where none is found."""
    evaluations: Mapping[str, float]
    """Mean network evaluations of a row, by kind, those of all stages before the truth."""
    seconds: float
    """Mean CPU seconds of a row in the same stages, in batches of the recipe's size."""
    failed: int
    """Number of rows with an error or a rejection; they count as no success."""
    machine: str
    """Processor and threads, or GPU, and version of PyTorch."""

    def line(self) -> str:
        """Returns the main figures in a line."""
        where = f"{self.recipe} {self.edit_type} ({self.mask} mask, {self.rows} {self.split} rows)"
        return f"{where}: success {self.success:.2f}, {self.seconds:.2f} s a row"


class MeasuredRecipe(BaseModel):
    """A recipe as it was measured."""

    model_config = _STRICT

    stages: list[dict[str, Any]]
    """Its stages as tables of a recipe, without those that measure."""
    revisions: Mapping[str, Mapping[str, str]]
    """Exact weights of each of them, by the stage's name."""


class MethodTable(BaseModel):
    """Cells of one checkpoint."""

    model_config = _STRICT

    checkpoint: str
    """Name of the checkpoint, such as `papercut`."""
    recipes: Mapping[str, MeasuredRecipe] = Field(default_factory=dict)
    """Recipes that the cells are of, by name."""
    cells: list[Cell] = Field(default_factory=list[Cell])
    """Cells, in order of recipe, type, mask and rows."""

    @property
    def digest(self) -> str:
        """The digest of all that is in the table."""
        return digest(self.model_dump(mode="json"))

    def best(self, edit_type: str, *, max_forward: float | None = None) -> list[Cell]:
        """Returns the cells of a type on training scenes, the best first.

        Ties go to the higher median gain, then to fewer forward evaluations.

        Args:
            edit_type: type of edit.
            max_forward: most forward evaluations of a row; None sets no limit.
        """
        cells = [cell for cell in self.cells if cell.edit_type == edit_type]
        cells = [cell for cell in cells if cell.split == "train"]
        if max_forward is not None:
            cells = [c for c in cells if c.evaluations.get("forward", 0.0) <= max_forward]
        return sorted(cells, key=_order)


def read_method_table(path: Path) -> MethodTable:
    """Reads a table.

    Raises:
        UsageError: there is none, or it is not one.
    """
    try:
        return MethodTable.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such table of methods: `bench methods` makes one") from error
    except ValidationError as error:
        message = first_error(error, MethodTable.model_fields)
        raise UsageError(f"{path}: not a table of methods: {message}") from error


def _order(cell: Cell) -> tuple[float, float, float, str, str]:
    gain = -1e9 if cell.gain is None else cell.gain
    return -cell.success, -gain, cell.evaluations.get("forward", 0.0), cell.recipe, cell.mask
