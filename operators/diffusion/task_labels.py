"""Task labels of a loaded UNet, added to the embedding of the timestep."""

from collections.abc import Sequence
from typing import Any

import torch
from overpaint.operators.models.task_labels import TASK_LABELS_FILE, task_labels_file
from overpaint.operators.models.weights import Checkpoint
from torch import Tensor, nn


class TaskLabels(nn.Embedding):
    """Embeddings of task labels: labels by the width of the timestep's embedding."""


def load_task_labels(checkpoint: Checkpoint, unet: Any) -> None:
    """Gives a UNet the task labels that lie beside its weights; does nothing where none do.

    Raises:
        ValueError: the embeddings are not of the UNet's size.
    """
    from safetensors.torch import load_file

    path = task_labels_file(checkpoint)
    if path is None:
        return
    weights = load_file(path)["weight"].to(unet.device, unet.dtype)
    width = int(unet.time_embedding.linear_2.out_features)
    if weights.ndim != 2 or weights.shape[1] != width:
        raise ValueError(
            f"checkpoint = {checkpoint.name!r}: {TASK_LABELS_FILE} holds embeddings of shape "
            f"{list(weights.shape)}: the UNet needs labels by {width}"
        )
    unet.class_embedding = TaskLabels.from_pretrained(weights)


def class_labels(unet: Any, labels: Sequence[int | Sequence[int]], num_rows: int) -> Tensor | None:
    """Returns the label of every row of a call; None for a UNet without task labels.

    Args:
        unet: UNet2DConditionModel.
        labels: label of each branch, or of each of its rows.
        num_rows: number of rows in each branch.
    """
    if not isinstance(unet.class_embedding, TaskLabels):
        return None
    of_rows = [[each] * num_rows if isinstance(each, int) else each for each in labels]
    return torch.tensor([label for rows in of_rows for label in rows], device=unet.device)
