"""The training loop that every papercut checkpoint shares: schedule, EMA, state, log, exports.

The state of a run is one folder outside the repository (by default
`$XDG_CACHE_HOME/overpaint/training/<name>`, or below `~/.cache`):

    state.pt          weights, EMA weights, optimizer, step; replaced as a whole every few minutes
    log.jsonl         one line per logged step: step, seconds, loss, learning rate, quality
    sheets/*.png      what the EMA weights make, to look at

A run that finds `state.pt` goes on from its step; Ctrl-C saves one first. What a step draws
depends on the seed and the step alone, so that a resumed run sees what an uninterrupted one would
have seen.
"""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from overpaint.jobs.training.history import TrainingRecord, device_name, write_history
from PIL import Image
from torch import Tensor, nn

log = logging.getLogger(__name__)

_STATE_FILE = "state.pt"
_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How a checkpoint is trained, apart from its loss.

    Attributes:
        batch_size: Examples a step.
        learning_rate: Peak of the schedule: linear warm-up, then a cosine to `final_rate`.
        final_rate: Last learning rate as a share of the peak.
        warmup_steps: Steps from zero to the peak.
        weight_decay: AdamW's.
        ema_decay: Decay of the averaged weights, which are the ones exported.
        steps: Steps of a run that is given neither steps nor minutes; meant for a GPU.
        save_every_s: Seconds between saved states and exports.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    steps: int = 20_000
    save_every_s: float = 240.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When a run ends: after so many steps or minutes, counted over all resumed parts.

    Raises:
        ValueError: Neither is given, or one is not above 0.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {"steps": self.steps, "minutes": self.minutes}
        for name, value in given.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if not any(given.values()):
            raise ValueError("a budget needs steps or minutes")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, 0 to 1 and beyond."""
        by_step = step / self.steps if self.steps else 0.0
        by_time = seconds / (self.minutes * 60) if self.minutes else 0.0
        return max(by_step, by_time)


class StepContext(NamedTuple):
    """Where in a run a step stands, and its randomness."""

    step: int
    progress: float
    rng: np.random.Generator
    generator: torch.Generator
    device: torch.device


class TrainingTask(Protocol):
    """A checkpoint in training: its modules, its loss, and how it is saved and judged."""

    @property
    def name(self) -> str:
        """Name of the checkpoint, which is its folder's."""
        ...

    @property
    def config(self) -> TrainingConfig:
        """How it is trained."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules whose parameters are trained, by a name that the state keeps."""
        ...

    def loss(self, context: StepContext) -> Tensor:
        """Loss of one batch, drawn with the context's generators."""
        ...

    def export(self, folder: Path) -> None:
        """Write the checkpoint in its standard folder layout, fp16 safetensors."""
        ...

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Cheap figures on a few unseen scenes, for the log."""
        ...

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Picture that shows what the checkpoint does now."""
        ...


class TrainingResult(NamedTuple):
    """What a run came to."""

    steps: int
    seconds: float
    loss: float


def resolve_device(device: str) -> torch.device:
    """Device for `cpu`, `cuda`, ... or `auto`: CUDA where there is one, else the CPU.

    Raises:
        ValueError: No device has that name.
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
    budget: Budget,
    device: torch.device,
    seed: int,
    previous: Sequence[TrainingRecord] = (),
    num_examples: int = 0,
) -> TrainingResult:
    """Train until the budget is used, then export the averaged weights to `out`.

    Args:
        task: what is trained.
        out: Folder of this checkpoint; replaced as a whole at each export.
        state: Folder of the run's state; a state found there is continued.
        budget: Steps or minutes in all, earlier parts of the run included.
        device: Where the modules are trained.
        seed: With the step, decides what a step draws.
        previous: the trainings that the first weights come from.
        num_examples: Drawn examples that steps pick from.
    """
    run = _Run.start(task, state, device)
    run.previous, run.num_examples = previous, num_examples
    try:
        loss = _take_steps(run, budget, out, seed)
    except KeyboardInterrupt:
        run.save_state()
        raise
    run.save(out)
    return TrainingResult(run.step, run.seconds, loss)


def _take_steps(run: "_Run", budget: Budget, out: Path, seed: int) -> float:
    began = saved = time.monotonic()
    offset_s, loss = run.seconds, math.nan
    while (progress := budget.progress(run.step, run.seconds)) < 1.0:
        loss = run.take_step(_step_context(run.step, progress, seed, run.device))
        run.seconds = offset_s + time.monotonic() - began
        if run.step % _LOG_EVERY == 0:
            run.record(loss=run.mean_loss, learning_rate=run.learning_rate)
        if time.monotonic() - saved > run.task.config.save_every_s:
            run.save(out)
            saved = time.monotonic()
    return loss


def _step_context(step: int, progress: float, seed: int, device: torch.device) -> StepContext:
    rng = np.random.default_rng([seed, step])
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return StepContext(step, progress, rng, generator, device)


class _Run:
    """A run under way: the optimizer, the averaged weights, the step and the clock."""

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
        self.modules.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.is_half = _has_fast_half(device)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=task.config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=task.config.weight_decay,
            fused=True,
        )

    @classmethod
    def start(cls, task: TrainingTask, folder: Path, device: torch.device) -> "_Run":
        run = cls(task, folder, device)
        (folder / "sheets").mkdir(parents=True, exist_ok=True)
        if (folder / _STATE_FILE).is_file():
            run._load(torch.load(folder / _STATE_FILE, map_location=device, weights_only=True))
            log.info("%s: goes on from step %d", task.name, run.step)
        return run

    def take_step(self, context: StepContext) -> float:
        config = self.task.config
        self.learning_rate = _learning_rate(config, context.step, context.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_half):
            loss = self.task.loss(context)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self._average(min(config.ema_decay, (1 + self.step) / (10 + self.step)))
        value = float(loss.detach())
        self.mean_loss = (
            value if math.isnan(self.mean_loss) else 0.98 * self.mean_loss + 0.02 * value
        )
        return value

    def record(self, **figures: float) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1)} | {
            name: round(value, 6) for name, value in figures.items()
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        log.info("%s %s", self.task.name, " ".join(f"{k}={v:g}" for k, v in line.items()))

    def save_state(self) -> None:
        with replaced(self.folder / _STATE_FILE) as path:
            torch.save(self._state(), path)

    def save(self, out: Path) -> None:
        """Save the state; export, show and measure the averaged weights."""
        self.save_state()
        with self._averaged(), torch.no_grad():
            self.modules.eval()
            with replaced(out) as folder:
                folder.mkdir()
                self.task.export(folder)
                write_history(folder, [*self.previous, self._training()])
            self.record(**self.task.validation_metrics(self.device))
            sheet = self.task.sample_sheet(self.device)
            sheet.save(self.folder / "sheets" / f"{self.step:06d}.png")
        self.modules.train()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        torch._foreach_lerp_(self.averages, self.parameters, 1.0 - decay)  # pyright: ignore

    @contextmanager
    def _averaged(self) -> Generator[None]:
        trained = [p.detach().clone() for p in self.parameters]
        _copy(self.averages, self.parameters)
        try:
            yield
        finally:
            _copy(trained, self.parameters)

    def _training(self) -> TrainingRecord:
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
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.modules.load_state_dict(state["modules"])
        self.averages = state["averages"]
        self.optimizer.load_state_dict(state["optimizer"])


def _has_fast_half(device: torch.device) -> bool:
    """Whether bf16 pays: on a CPU without instructions for it a step takes 17 times longer."""
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
def replaced(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to, and rename it over `path` when that went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    yield fresh
    if path.is_dir():
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.rename(old)
        fresh.rename(path)
        shutil.rmtree(old)
    else:
        fresh.replace(path)
