"""Task labels of a checkpoint: embeddings that tell a UNet its task, in a file of their own.

diffusers does not read that file. Label 0 is an unknown task and adds nothing, so that plain
diffusers draws the same as label 0.
"""

from pathlib import Path

from overpaint.operators.models.weights import Checkpoint

TASK_LABELS_FILE = "unet/task_labels.safetensors"
"""Embeddings in a checkpoint's folder: `weight`, labels by features."""


def task_labels_file(checkpoint: Checkpoint) -> Path | None:
    """Returns the file of a checkpoint's task labels; None where it has none, as on the hub."""
    path = Path(checkpoint.path) / TASK_LABELS_FILE
    return path if not checkpoint.is_on_hub and path.is_file() else None


def check_task_label(checkpoint: Checkpoint, task: str, label: int) -> None:
    """Checks that a checkpoint knows a task.

    Args:
        checkpoint: weights of the model.
        task: name of the task.
        label: label of the task.

    Raises:
        ValueError: it has no task labels, or fewer.
    """
    from safetensors import safe_open

    path = task_labels_file(checkpoint)
    if path is None:
        raise ValueError(
            f"task = {task!r}: {checkpoint.field} = {checkpoint.name!r} has no task labels: leave "
            "task out"
        )
    with safe_open(path, framework="np") as weights:
        num_labels = int(weights.get_slice("weight").get_shape()[0])
    if label >= num_labels:
        raise ValueError(
            f"task = {task!r} is label {label}: {checkpoint.field} = {checkpoint.name!r} has "
            f"{num_labels} task labels, of which the first is none"
        )
