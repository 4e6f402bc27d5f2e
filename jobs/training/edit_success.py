"""How many edits of the 12 types an instruction editor gets right, by the operators that users run.

Success is that of the `truth` operator: gain of 0.5 or more, 25 dB outside the true mask. Beside it
stands the oracle, what the editor's VAE makes of the true targets themselves.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.cluster.worker.memory import Loaded
from overpaint.jobs.papercut.dataset import ROWS_FILE, write_dataset
from overpaint.jobs.training.instruction import EditSampling
from overpaint.operators.edit import Edit
from overpaint.operators.truth import Truth
from overpaint.pipeline.columns import INPUT_MASK_URI
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Answer, NewColumns, Rejected

_BATCH_SIZE = 16


class MeasuredEdit(NamedTuple):
    """An edit that was measured; images are RGB uint8 HWC."""

    edit_type: str
    source: NDArray[np.uint8]
    edited: NDArray[np.uint8]
    target: NDArray[np.uint8]
    is_success: bool
    is_oracle_success: bool


def edit_test_scenes(
    editor: Path, num_edits: int, guidance: EditSampling, *, seed: int = 0
) -> list[MeasuredEdit]:
    """Edits unseen scenes as they are told, the 12 types in turn, and compares with the truth.

    Args:
        editor: Folder of a StableDiffusionInstructPix2PixPipeline.
        num_edits: How many.
        guidance: How the edits are sampled.
        seed: Which edits.
    """
    with TemporaryDirectory() as folder:
        data = Path(folder) / "edits"
        write_dataset(data, rows=num_edits, seed=seed, edit_types=["all"])
        lines = (data / ROWS_FILE).read_text(encoding="utf-8").splitlines()
        rows = [_row(data, json.loads(line), index) for index, line in enumerate(lines)]
        return [
            found
            for start in range(0, num_edits, _BATCH_SIZE)
            for found in _measured(rows[start : start + _BATCH_SIZE], editor, guidance)
        ]


def _row(data: Path, line: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A row as the stages of a run see it."""
    source = (data / line["source_uri"]).read_bytes()
    return {
        **line,
        "source_image": source,
        "base_uri": str(data),
        "seed": index,
        "image_format": "png",
        INPUT_MASK_URI.name: line["mask_uri"],
    }


def _measured(
    rows: Sequence[dict[str, Any]], editor: Path, guidance: EditSampling
) -> list[MeasuredEdit]:
    edit = Edit(
        method="instruct_pix2pix",
        checkpoint=str(editor),
        batch_size=_BATCH_SIZE,
        guidance_scale=guidance.text,
        image_guidance_scale=guidance.image,
        num_inference_steps=guidance.num_steps,
    )
    truth = Truth(checkpoint=str(editor))
    rows = _after(edit, rows)
    return [_edited(row) for row in _after(truth, rows)]


def _after(operator: Any, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows with the columns that an operator adds."""
    answers = Loaded.load(operator).run(rows)
    return [{**row, **_columns(answer)} for row, answer in zip(rows, answers, strict=True)]


def _columns(answer: Answer) -> NewColumns:
    if isinstance(answer, RowError | Rejected):
        raise RowError(answer.code, answer.message)
    return answer


def _edited(row: Mapping[str, Any]) -> MeasuredEdit:
    target = (Path(row["base_uri"]) / row["target_uri"]).read_bytes()
    return MeasuredEdit(
        edit_type=row["edit_type"],
        source=decode(row["source_image"]).rgb,
        edited=decode(row["edited_image"]).rgb,
        target=decode(target).rgb,
        is_success=row["truth_success"],
        is_oracle_success=row["oracle_success"],
    )
