"""`overpaint train NAME`: trains one papercut checkpoint.

A run begins with fresh weights or with those of a checkpoint (`start`), and goes on from its own
state where it has one.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from overpaint.jobs.training.examples import EVERYTHING, Mixture
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.loop import (
    Budget,
    Outcome,
    Schedule,
    Trainee,
    resolve_device,
    run_training,
)
from overpaint.jobs.training.trainees import CHECKPOINTS
from overpaint.jobs.training.workplace import Workplace
from overpaint.operators.loading import quietly
from torch import nn

__all__ = ["CHECKPOINTS", "default_state", "train"]


def train(
    name: str,
    *,
    out: Path,
    state: Path | None = None,
    start: Path | None = None,
    freeze: Sequence[str] = (),
    minutes: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    mixture: Mixture = EVERYTHING,
    num_drawn: int = 60_000,
    num_tested: int = 512,
    schedule: Schedule | None = None,
    learning_rate: float | None = None,
) -> Outcome:
    """Train one checkpoint and write it to `out / name`.

    Args:
        name: One of `CHECKPOINTS`.
        out: Folder of all checkpoints; those that this one builds on are read from it.
        state: Folder of the run's state; None for `default_state() / name`. A state found there
            is continued.
        start: Folder of checkpoints; a run without a state begins with the weights of the one of
            that name in it. None for fresh weights.
        freeze: Beginnings of the names of parameters that stay as they are, such as
            `vae.encoder`.
        minutes: Length of the whole run, earlier parts included.
        steps: Number of steps of the whole run; without minutes and steps, the schedule's.
        device: A torch device, or `auto` for CUDA where there is one and else the CPU.
        seed: Decides the first weights and what each step draws.
        mixture: Scenes that text_to_image is trained on.
        num_drawn: Scenes drawn to train on.
        num_tested: Unseen scenes drawn for the figures in the log.
        schedule: Batch size, learning rate and the like; None for the checkpoint's own.
        learning_rate: Peak learning rate; None for the schedule's.

    Raises:
        ValueError: No checkpoint has that name, or no parameter a name to freeze.
        FileNotFoundError: A checkpoint that this one builds on or starts from is missing.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(CHECKPOINTS)}")
    state = state or default_state() / name
    place = Workplace(
        checkpoints=out,
        caches=state.parent / "caches",
        device=resolve_device(device),
        start=start,
        num_drawn=num_drawn,
        num_tested=num_tested,
        num_processes=min(os.cpu_count() or 1, 1 + num_drawn // 2000),
        mixture=mixture,
        schedule=schedule,
        learning_rate=learning_rate,
    )
    torch.manual_seed(seed)
    with quietly():
        trainee = CHECKPOINTS[name](place)
    _freeze(trainee, freeze)
    if minutes is None and steps is None:
        steps = trainee.schedule.steps
    return run_training(
        trainee,
        out=out / name,
        state=state,
        budget=Budget(steps=steps, minutes=minutes),
        device=place.device,
        seed=seed,
        earlier=read_history(start / name) if start else (),
        num_examples=num_drawn,
    )


def default_state() -> Path:
    """Where states and drawn examples are kept between runs, outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "overpaint" / "training"


def _freeze(trainee: Trainee, beginnings: Sequence[str]) -> None:
    parameters = dict(nn.ModuleDict(dict(trainee.modules)).named_parameters())
    for beginning in beginnings:
        frozen = [name for name in parameters if name.startswith(beginning)]
        if not frozen:
            raise ValueError(f"freeze has {beginning!r}, and no parameter's name begins so")
        for name in frozen:
            parameters[name].requires_grad_(False)
