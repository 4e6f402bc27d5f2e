"""Training history of a checkpoint: `training.jsonl` in its folder, one line for each training."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

_FILE = "training.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """Completed training of a checkpoint, on top of the previous ones.

    Attributes:
        steps: optimizer steps.
        minutes: wall-clock time of the steps.
        batch_size: examples a step.
        learning_rate: peak learning rate.
        examples: number of drawn examples that steps sampled from.
        device: hardware, such as `NVIDIA H100` or `1 thread of x86_64`.
        note: other differences, such as frozen parameters.
    """

    steps: int
    minutes: float
    batch_size: int
    learning_rate: float
    examples: int
    device: str
    note: str = ""

    def __str__(self) -> str:
        also = f"; {self.note}" if self.note else ""
        minutes = f"{self.minutes:.{0 if self.minutes >= 10 else 1}f} minutes"
        return (
            f"{self.steps:,} steps of {self.batch_size} in {minutes} on "
            f"{self.device}, from {self.examples:,} drawn examples, learning rate "
            f"{self.learning_rate:g}{also}"
        )


def read_history(folder: Path) -> list[TrainingRecord]:
    """Reads the trainings of the checkpoint in a folder, the oldest first; empty if unrecorded."""
    path = folder / _FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [TrainingRecord(**json.loads(line)) for line in lines]


def write_history(folder: Path, trainings: Sequence[TrainingRecord]) -> None:
    """Writes the trainings of the checkpoint in a folder, the oldest first."""
    lines = [json.dumps(asdict(training)) + "\n" for training in trainings]
    (folder / _FILE).write_text("".join(lines), encoding="utf-8")


def device_name(device: torch.device) -> str:
    """Returns the name of a device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    number = torch.get_num_threads()
    return f"{number} {'thread' if number == 1 else 'threads'} of {platform.machine()}"
