"""`overpaint train NAME`: trains one papercut checkpoint.

A run begins with fresh weights or with those of a checkpoint (`start`), and goes on from its own
state where it has one.
"""

from collections.abc import Sequence

import torch
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.loop import Budget, Outcome, Trainee, run_training
from overpaint.jobs.training.trainees import CHECKPOINTS
from overpaint.jobs.training.workplace import Workplace
from overpaint.operators.models.pretrained import quietly
from torch import nn

__all__ = ["CHECKPOINTS", "train"]


def train(
    name: str,
    place: Workplace,
    *,
    budget: Budget | None = None,
    freeze: Sequence[str] = (),
    seed: int = 0,
) -> Outcome:
    """Train one checkpoint and write it to its folder in `place.checkpoints`.

    Args:
        name: One of `CHECKPOINTS`.
        place: What is read and drawn, and where the state lies; one found there is continued.
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
        trainee = CHECKPOINTS[name](place)
    _freeze(trainee, freeze)
    return run_training(
        trainee,
        out=place.checkpoints / name,
        state=place.state / name,
        budget=budget or Budget(steps=trainee.schedule.steps),
        device=place.device,
        seed=seed,
        earlier=read_history(place.start / name) if place.start else (),
        num_examples=place.num_drawn,
    )


def _freeze(trainee: Trainee, beginnings: Sequence[str]) -> None:
    parameters = dict(nn.ModuleDict(dict(trainee.modules)).named_parameters())
    for beginning in beginnings:
        frozen = [name for name in parameters if name.startswith(beginning)]
        if not frozen:
            raise ValueError(f"freeze has {beginning!r}, and no parameter's name begins so")
        for name in frozen:
            parameters[name].requires_grad_(False)
