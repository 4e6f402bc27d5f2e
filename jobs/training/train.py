"""`overpaint train NAME`: trains one papercut checkpoint.

A run begins with fresh weights or with those of a checkpoint (`start`), and goes on from its own
state where it has one.
"""

from collections.abc import Sequence

import torch
from overpaint.jobs.training.checkpoints import CHECKPOINTS
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.loop import Budget, TrainingResult, TrainingTask, run_training
from overpaint.jobs.training.workspace import Workspace
from overpaint.operators.models.pretrained import quietly
from torch import nn

__all__ = ["CHECKPOINTS", "train"]


def train(
    name: str,
    workspace: Workspace,
    *,
    budget: Budget | None = None,
    freeze: Sequence[str] = (),
    seed: int = 0,
) -> TrainingResult:
    """Train one checkpoint and write it to its folder in `workspace.checkpoints`.

    Args:
        name: One of `CHECKPOINTS`.
        workspace: What is read and drawn, and where the state lies; one found there is continued.
        budget: Length of the whole run, earlier parts included; None for the schedule's steps.
        freeze: Beginnings of the names of parameters that stay as they are, such as
            `vae.encoder`.
        seed: Decides the first weights and what each step draws.

    Raises:
        ValueError: No checkpoint has that name, or no parameter a name to freeze.
        FileNotFoundError: A checkpoint that this one builds on or starts from is missing.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(CHECKPOINTS)}")
    torch.manual_seed(seed)
    with quietly():
        task = CHECKPOINTS[name](workspace)
    _freeze(task, freeze)
    return run_training(
        task,
        out=workspace.checkpoints / name,
        state=workspace.state / name,
        budget=budget or Budget(steps=task.config.steps),
        device=workspace.device,
        seed=seed,
        previous=read_history(workspace.start / name) if workspace.start else (),
        num_examples=workspace.num_train,
    )


def _freeze(task: TrainingTask, beginnings: Sequence[str]) -> None:
    parameters = dict(nn.ModuleDict(dict(task.modules)).named_parameters())
    for beginning in beginnings:
        frozen = [name for name in parameters if name.startswith(beginning)]
        if not frozen:
            raise ValueError(f"freeze has {beginning!r}, and no parameter's name begins so")
        for name in frozen:
            parameters[name].requires_grad_(False)
