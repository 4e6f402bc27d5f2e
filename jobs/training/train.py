"""Training of one papercut checkpoint, as `overpaint train NAME` runs it.

A run starts from random weights or from those of a checkpoint (`Workspace.start`), and continues
from its own saved state where there is one.
"""

from collections.abc import Sequence

import torch
from overpaint.jobs.training.checkpoints import CHECKPOINTS
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.loop import TrainingBudget, TrainingResult, run_training
from overpaint.jobs.training.sharing import own_files
from overpaint.jobs.training.task import TrainingTask
from overpaint.jobs.training.workspace import Workspace
from overpaint.operators.models.pretrained import quietly
from torch import nn

__all__ = ["CHECKPOINTS", "train"]


def train(
    name: str,
    workspace: Workspace,
    *,
    budget: TrainingBudget | None = None,
    freeze: Sequence[str] = (),
    seed: int = 0,
) -> TrainingResult:
    """Trains one checkpoint, and writes it to its folder in `workspace.checkpoints`.

    Args:
        name: one of `CHECKPOINTS`.
        workspace: folders of the training; a saved state that is there is continued.
        budget: length of the run, resumed parts included; None for `TrainingConfig.steps`.
        freeze: prefixes of the names of parameters to freeze, such as `vae.encoder`.
        seed: decides the initial weights and what each step draws.

    Raises:
        ValueError: no checkpoint has that name, or no parameter a name to freeze.
        FileNotFoundError: a checkpoint that this one builds on or starts from is missing.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(CHECKPOINTS)}")
    torch.manual_seed(seed)
    with quietly():
        task = CHECKPOINTS[name](workspace)
    _freeze(task, freeze)
    with own_files(workspace.checkpoints, name):
        return run_training(
            task,
            out=workspace.checkpoints / name,
            state=workspace.state / name,
            budget=budget or TrainingBudget(steps=task.config.steps),
            device=workspace.device,
            seed=seed,
            previous=read_history(workspace.start / name) if workspace.start else (),
            num_examples=workspace.num_train,
        )


def _freeze(task: TrainingTask, prefixes: Sequence[str]) -> None:
    parameters = dict(nn.ModuleDict(dict(task.modules)).named_parameters())
    for prefix in prefixes:
        frozen = [name for name in parameters if name.startswith(prefix)]
        if not frozen:
            raise ValueError(f"freeze has {prefix!r}, and no parameter's name starts with it")
        for name in frozen:
            parameters[name].requires_grad_(False)
