"""Training loop of every papercut checkpoint: learning rate, EMA, saved state, log, exports.

The state of a run is one folder outside the repository (by default
`$XDG_CACHE_HOME/overpaint/training/<name>`, or below `~/.cache`):

    state.pt          weights, EMA weights, optimizer, step; replaced as a whole every few minutes
    log.jsonl         one line per logged step: step, seconds, loss, learning rate, metrics
    sheets/*.png      sample sheets of the EMA weights

A run that finds `state.pt` continues from its step; Ctrl-C saves the state first. What a step draws
depends on the seed and the step alone, so that a resumed run takes the steps of an uninterrupted
one.
"""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from overpaint.jobs.training.attention import cpu_attention_in_float32
from overpaint.jobs.training.history import TrainingRecord, device_name, write_history
from overpaint.jobs.training.task import StepContext, TrainingConfig, TrainingTask
from torch import Tensor, nn

log = logging.getLogger(__name__)

_STATE_FILE = "state.pt"
_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBudget:
    """Length of a run, counted over all resumed parts; the limit that is reached first counts.

    Attributes:
        steps: number of steps; None for no limit.
        minutes: duration of the steps; None for no limit.

    Raises:
        ValueError: both are None, or one is not above 0.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        limits = {"steps": self.steps, "minutes": self.minutes}
        for name, value in limits.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if not any(limits.values()):
            raise ValueError("a budget needs steps or minutes")

    def progress(self, step: int, seconds: float) -> float:
        """Returns the fraction of the budget that is used, 0 to 1 and beyond."""
        by_step = step / self.steps if self.steps else 0.0
        by_time = seconds / (self.minutes * 60) if self.minutes else 0.0
        return max(by_step, by_time)


class TrainingResult(NamedTuple):
    """Result of a run.

    Attributes:
        steps: steps of all parts of the run.
        seconds: duration of these steps.
        loss: loss of the last step.
    """

    steps: int
    seconds: float
    loss: float


def resolve_device(device: str) -> torch.device:
    """Returns the device of a name such as `cpu`, `cuda`, or `auto`: CUDA if available, else CPU.

    Raises:
        ValueError: no device has that name.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device is {device!r}; it must be auto, cpu or cuda") from error


def run_training(
    task: TrainingTask,
    *,
    out: Path,
    state: Path,
    budget: TrainingBudget,
    device: torch.device,
    seed: int,
    previous: Sequence[TrainingRecord] = (),
    num_examples: int = 0,
) -> TrainingResult:
    """Trains until the budget is used, then exports the EMA weights to `out`.

    Args:
        task: checkpoint to train.
        out: folder of this checkpoint; replaced as a whole at each export.
        state: folder of the run's state; a state that is there is continued.
        budget: length of the run, resumed parts included.
        device: device of the trained modules.
        seed: decides, with the step, what a step draws.
        previous: trainings that the initial weights come from.
        num_examples: number of drawn examples to sample from.
    """
    run = _TrainingRun.start(task, state, device)
    run.previous, run.num_examples = previous, num_examples
    try:
        loss = _take_steps(run, budget, out, seed)
    except KeyboardInterrupt:
        run.save_state()
        raise
    run.save(out)
    return TrainingResult(run.step, run.seconds, loss)


def _take_steps(run: "_TrainingRun", budget: TrainingBudget, out: Path, seed: int) -> float:
    started = saved = time.monotonic()
    offset_s, loss = run.seconds, math.nan
    while (progress := budget.progress(run.step, run.seconds)) < 1.0:
        loss = run.take_step(_seeded_context(run.step, progress, seed, run.device))
        run.seconds = offset_s + time.monotonic() - started
        if run.step % _LOG_EVERY == 0:
            run.log_metrics(loss=run.mean_loss, learning_rate=run.learning_rate)
        if time.monotonic() - saved > run.task.config.save_every_s:
            run.save(out)
            saved = time.monotonic()
    return loss


def _seeded_context(step: int, progress: float, seed: int, device: torch.device) -> StepContext:
    """Returns a step's context, and seeds the generators of all devices for the step."""
    rng = np.random.default_rng([seed, step])
    torch.manual_seed(int(rng.integers(2**62)))
    return StepContext(step, progress, rng, device)


class _TrainingRun:
    """Run in progress: optimizer, EMA weights, step and clock."""

    def __init__(self, task: TrainingTask, folder: Path, device: torch.device) -> None:
        self.task = task
        self.folder = folder
        self.device = device
        self.step = 0
        self.seconds = 0.0
        self.previous: Sequence[TrainingRecord] = ()
        self.num_examples = 0
        self.mean_loss = math.nan
        self.learning_rate = 0.0
        self.modules = nn.ModuleDict(dict(task.modules)).to(device).train()
        if device.type != "cpu":
            # A CPU's group norm takes several times as long in this format.
            self.modules.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.is_bf16 = _has_fast_bf16(device)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.ema = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=task.config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=task.config.weight_decay,
            fused=True,
        )

    @classmethod
    def start(cls, task: TrainingTask, folder: Path, device: torch.device) -> "_TrainingRun":
        run = cls(task, folder, device)
        (folder / "sheets").mkdir(parents=True, exist_ok=True)
        if (folder / _STATE_FILE).is_file():
            run._load(torch.load(folder / _STATE_FILE, map_location=device, weights_only=True))
            log.info("%s: continues from step %d", task.name, run.step)
        return run

    def take_step(self, context: StepContext) -> float:
        config = self.task.config
        self.learning_rate = _learning_rate(config, context.step, context.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16)
        with autocast, cpu_attention_in_float32(self.device):
            loss = self.task.loss(context)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_ema(min(config.ema_decay, (1 + self.step) / (10 + self.step)))
        value = float(loss.detach())
        self.mean_loss = (
            value if math.isnan(self.mean_loss) else 0.98 * self.mean_loss + 0.02 * value
        )
        return value

    def log_metrics(self, **metrics: float) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1)} | {
            name: round(value, 6) for name, value in metrics.items()
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        log.info("%s %s", self.task.name, " ".join(f"{k}={v:g}" for k, v in line.items()))

    def save_state(self) -> None:
        with replacement(self.folder / _STATE_FILE) as path:
            torch.save(self._state(), path)

    def save(self, out: Path) -> None:
        """Saves the state, and exports, measures and samples the EMA weights."""
        self.save_state()
        with self._ema_weights(), torch.no_grad():
            self.modules.eval()
            with replacement(out) as folder:
                folder.mkdir()
                self.task.export(folder)
                write_history(folder, [*self.previous, self._training_record()])
            self.log_metrics(**self.task.validation_metrics(self.device))
            sheet = self.task.sample_sheet(self.device)
            sheet.save(self.folder / "sheets" / f"{self.step:06d}.png")
        self.modules.train()

    @torch.no_grad()
    def _update_ema(self, decay: float) -> None:
        torch._foreach_lerp_(self.ema, self.parameters, 1.0 - decay)  # pyright: ignore

    @contextmanager
    def _ema_weights(self) -> Generator[None]:
        trained = [p.detach().clone() for p in self.parameters]
        _copy(self.ema, self.parameters)
        try:
            yield
        finally:
            _copy(trained, self.parameters)

    def _training_record(self) -> TrainingRecord:
        return TrainingRecord(
            steps=self.step,
            minutes=round(self.seconds / 60, 1),
            batch_size=self.task.config.batch_size,
            learning_rate=self.task.config.learning_rate,
            examples=self.num_examples,
            device=device_name(self.device),
        )

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "modules": self.modules.state_dict(),
            "averages": self.ema,
            "optimizer": self.optimizer.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.modules.load_state_dict(state["modules"])
        self.ema = state["averages"]
        self.optimizer.load_state_dict(state["optimizer"])


def _has_fast_bf16(device: torch.device) -> bool:
    """Tells whether bf16 is fast: without CPU instructions for it a step takes 17 times as long."""
    return device.type != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    warmup = min(1.0, (step + 1) / config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    decayed = config.final_rate + (1.0 - config.final_rate) * cosine
    return config.learning_rate * warmup * decayed


@torch.no_grad()
def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


@contextmanager
def replacement(path: Path) -> Generator[Path]:
    """Yields a temporary path beside `path`, and renames it over `path`.

    A body that raises leaves `path` as it was, and nothing beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        yield temporary
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
        raise
    if path.is_dir():
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old)
    else:
        temporary.replace(path)
