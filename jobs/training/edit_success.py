"""Success of an editor on test edits, by the operators of a run.

The `truth` operator decides success: gain of 0.5 or more, 25 dB outside the true mask. Its oracle,
the VAE's round trip of the true targets, bounds what the editor can reach.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.jobs.papercut.dataset import ROWS_FILE, write_dataset
from overpaint.jobs.papercut.scene import SIZE_PX
from overpaint.jobs.training.instruction import NUM_INFERENCE_STEPS, EditSampling
from overpaint.operators.edit import Edit
from overpaint.operators.methods.inpaint import Inpaint
from overpaint.operators.methods.instruct_pix2pix import InstructPix2Pix
from overpaint.operators.models.task_labels import task_labels_file
from overpaint.operators.models.weights import Checkpoint
from overpaint.operators.truth import Truth
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from overpaint.pipeline.stage import Stage

INPAINTING_GUIDANCE_SCALE = 4.0
_BATCH_SIZE = 16
# Truth measures what is kept from here on outward.
_MASK_DILATE_PX = 2


class MeasuredEdit(NamedTuple):
    """Edit with its success; images are RGB uint8 HWC.

    Attributes:
        edit_type: type of the edit.
        source: image before the edit.
        edited: image that the editor returned.
        target: true edited image.
        is_success: whether the editor succeeded.
        is_oracle_success: whether the VAE's round trip of the target counts as a success.
    """

    edit_type: str
    source: NDArray[np.uint8]
    edited: NDArray[np.uint8]
    target: NDArray[np.uint8]
    is_success: bool
    is_oracle_success: bool


def instruction_editor(checkpoint: Path, sampling: EditSampling | None = None) -> Edit:
    """Returns the edit by instructions of a StableDiffusionInstructPix2PixPipeline's folder."""
    sampling = sampling or EditSampling()
    method = InstructPix2Pix(
        guidance_scale=sampling.guidance_scale,
        image_guidance_scale=sampling.image_guidance_scale,
        num_inference_steps=sampling.num_inference_steps,
    )
    return Edit(settings=method, checkpoint=str(checkpoint), batch_size=_BATCH_SIZE)


def inpainting_editor(checkpoint: Path) -> Edit:
    """Returns the edit by the target's caption in the true mask, of an inpainting folder.

    A UNet that knows task labels is told that it reads a caption of the whole scene.
    """
    has_labels = task_labels_file(Checkpoint(name=str(checkpoint))) is not None
    method = Inpaint(
        guidance_scale=INPAINTING_GUIDANCE_SCALE,
        num_inference_steps=NUM_INFERENCE_STEPS,
        task="scene" if has_labels else None,
    )
    return Edit(
        settings=method,
        checkpoint=str(checkpoint),
        batch_size=_BATCH_SIZE,
        mask_dilate_px=_MASK_DILATE_PX,
        feather_px=_MASK_DILATE_PX,
    )


def edit_test_scenes(
    edit: Edit, num_edits: int, *, edit_types: Sequence[str] = ("all",), seed: int = 0
) -> list[MeasuredEdit]:
    """Edits test scenes, the types in turn, and measures success.

    Args:
        edit: editor; a method that needs a mask is given the true one.
        num_edits: number of edits.
        edit_types: some of the 12, or "all" alone.
        seed: any integer; each gives other edits.

    Raises:
        RowError: an edit failed.
    """
    stages = (Stage(operator=edit), Stage(operator=Truth(checkpoint=edit.checkpoint)))
    loaded = {stage.name: LoadedOperator.load(stage.operator) for stage in stages}
    needs_mask = MASK in edit.own.needed
    with TemporaryDirectory() as folder:
        data = Path(folder) / "edits"
        write_dataset(data, rows=num_edits, seed=seed, edit_types=edit_types)
        lines = (data / ROWS_FILE).read_text(encoding="utf-8").splitlines()
        rows = [_row(data, json.loads(line), index) for index, line in enumerate(lines)]
        if needs_mask:
            rows = [{**row, "mask_image": (data / row["mask_uri"]).read_bytes()} for row in rows]
        return [_measured(row) for row in run_stages(stages, loaded, rows).rows]


def _row(data: Path, line: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Returns a line of a dataset as a row that the stages of a run get."""
    return {
        **line,
        "key": str(index),
        "source_image": (data / line["source_uri"]).read_bytes(),
        "width_px": SIZE_PX,
        "height_px": SIZE_PX,
        "base_uri": str(data),
        "seed": index,
        "image_format": "png",
        "in_mask_uri": line["mask_uri"],
    }


def _measured(row: Mapping[str, Any]) -> MeasuredEdit:
    if row.get("status"):
        raise RowError(row["error_code"], f"{row['source_uri']}: {row['error_message']}")
    target = (Path(row["base_uri"]) / row["target_uri"]).read_bytes()
    return MeasuredEdit(
        edit_type=row["edit_type"],
        source=decode(row["source_image"]).rgb,
        edited=decode(row["edited_image"]).rgb,
        target=decode(target).rgb,
        is_success=row["truth_success"],
        is_oracle_success=row["oracle_success"],
    )
