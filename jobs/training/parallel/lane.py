"""Lane: a process that takes stages in turn, each until its deadline.

A lane writes the weights of the stage in progress every minute. One that is started again goes on
with the stage that it was at, from its last weights: with single operations and half the batch, in
case recording or memory was to blame; a stage that fails a third time is left out. Its folder holds

    <checkpoint>.safetensors    fp16 EMA weights, by module and name
    <lane>.json                 stages that have ended, facts, and the training record of each
    <lane>.tries                how often each stage was begun
    <lane>.jsonl                a line every few seconds: stage, steps, samples, loss and so on
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from overpaint.jobs.training.history import device_name
from overpaint.jobs.training.loop import replacement
from overpaint.jobs.training.parallel.bank import Bank
from overpaint.jobs.training.parallel.latent_stages import LATENT_STAGES
from overpaint.jobs.training.parallel.perception_stages import PERCEPTION_STAGES
from overpaint.jobs.training.parallel.stepper import Stepper
from overpaint.jobs.training.parallel.workshop import Stage, Trainee, Workshop
from safetensors.torch import load_file, save_file

_PULL_S, _GUARD_S, _LOG_S, _SAVE_S = 2.0, 5.0, 15.0, 60.0
_FIRST_LOG_S = 3.0
_EAGER_STEPS = 12
_MOST_TRIES = 2
_LABELS = ("unet.class_embedding.weight", "task_labels.weight")


def run_lane(
    name: str,
    *,
    out: Path,
    drawn: Path,
    shipped: Path,
    device: str,
    started: float,
    deadline: float,
    most_steps: int | None,
    can_record: bool,
    only: Sequence[str] = (),
) -> None:
    """Takes the stages of a lane, or those of some checkpoints; see `LaneRun` for the others."""
    _set_up(device)
    shop = Workshop(drawn=drawn, shipped=shipped, device=torch.device(device))
    run = LaneRun(
        name=name,
        out=out,
        shop=shop,
        started=started,
        deadline=deadline,
        can_record=can_record,
        most_steps=most_steps,
    )
    run.resume()
    run.log({"stage": "start", "torch": torch.__version__, "device": device_name(shop.device)})
    run.run([stage for stage in stages_of(name) if not only or stage.checkpoint in only])


def stages_of(lane: str) -> tuple[Stage, ...]:
    """Returns the stages of a lane: `latent`, `perception`, or `all` of both."""
    if lane == "latent":
        return LATENT_STAGES
    if lane == "perception":
        return PERCEPTION_STAGES
    # What most depends on comes first, in case the time is cut short; the decoder may come last.
    return (*LATENT_STAGES[:3], PERCEPTION_STAGES[0], *LATENT_STAGES[3:], *PERCEPTION_STAGES[1:])


def _set_up(device: str) -> None:
    torch.manual_seed(int(time.time()))
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(1)


@dataclass(kw_only=True, slots=True)
class LaneRun:
    """Progress of a lane.

    Attributes:
        name: name of the lane.
        out: folder of its weights and its log.
        shop: inputs of its stages.
        started: time at which the whole training began, in seconds since the epoch.
        deadline: time at which the last stage ends.
        can_record: record steps as CUDA graphs.
        most_steps: steps after which a stage ends before its time; None for no limit.
        ended: names of the stages that have ended.
        records: training record of each checkpoint.
    """

    name: str
    out: Path
    shop: Workshop
    started: float
    deadline: float
    can_record: bool
    most_steps: int | None = None
    ended: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> None:
        """Reads the weights and the facts of an earlier process of this lane."""
        for path in self.out.glob("*.safetensors"):
            self.shop.results[path.stem] = load_file(path)
        with suppress(FileNotFoundError):
            state = json.loads((self.out / f"{self.name}.json").read_text())
            self.ended, self.records = state["ended"], state["records"]
            self.shop.facts.update(state["facts"])

    def run(self, stages: Sequence[Stage]) -> None:
        """Takes the stages that have not ended; each gets its share of the time that is left."""
        left = [stage for stage in stages if stage.name not in self.ended]
        while left:
            share = left[0].share / sum(stage.share for stage in left)
            stage = left.pop(0)
            tries = self._count_try(stage)
            if tries > _MOST_TRIES:
                self.log({"stage": stage.name, "left_out_after_tries": tries - 1})
            else:
                deadline = time.time() + share * (self.deadline - time.time())
                self._take(stage, deadline, is_first=tries == 1)
            self.ended.append(stage.name)
            self._save_state()

    def log(self, line: Mapping[str, Any]) -> None:
        """Appends a line to the log, and prints it."""
        seconds = round(time.time() - self.started, 1)
        with (self.out / f"{self.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"lane": self.name, "seconds": seconds, **line}) + "\n")
        words = " ".join(f"{name} {_shown(value)}" for name, value in line.items())
        print(f"{self.name} {seconds:.0f}s {words}", flush=True)

    def _take(self, stage: Stage, deadline: float, *, is_first: bool) -> None:
        on_cuda = self.shop.device.type == "cuda"
        size = stage.batch_size if on_cuda else stage.cpu_batch_size
        size = size if is_first else size // 2
        trainee = stage.build(self.shop, size)
        trainee.pull(at_least=size)
        stepper = Stepper(trainee.modules, trainee.loss, stage.settings, self.shop.device)
        turn = _Turn(self, stage, trainee, stepper, size, time.time(), deadline)
        if on_cuda and self.can_record and is_first:
            turn.choose_steps()
        turn.train()
        self._keep(stage, stepper)
        self.records[stage.checkpoint] = turn.record(self.records.get(stage.checkpoint))
        if trainee.finish is not None:
            trainee.finish()
        del turn, stepper, trainee
        if on_cuda:
            torch.cuda.empty_cache()

    def _count_try(self, stage: Stage) -> int:
        """Counts a try of a stage, by all processes of this lane."""
        path = self.out / f"{self.name}.tries"
        tries: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
        tries[stage.name] = tries.get(stage.name, 0) + 1
        path.write_text(json.dumps(tries))
        return tries[stage.name]

    def _keep(self, stage: Stage, stepper: Stepper) -> None:
        """Writes the weights of a stage, and hands them to the stages after it."""
        weights = {
            _LABELS[1] if name == _LABELS[0] else name: value
            for name, value in stepper.ema_weights().items()
        }
        with replacement(self.out / f"{stage.checkpoint}.safetensors") as path:
            save_file(weights, path)
        self.shop.results[stage.checkpoint] = weights

    def keep_progress(self, stage: Stage, turn: "_Turn") -> None:
        """Writes what a stage in progress has reached."""
        self._keep(stage, turn.stepper)
        before = self.records.get(stage.checkpoint)
        self._save_state({stage.checkpoint: turn.record(before)})

    def _save_state(self, also: Mapping[str, Any] | None = None) -> None:
        state = {
            "ended": self.ended,
            "facts": self.shop.facts,
            "records": self.records | dict(also or {}),
        }
        with replacement(self.out / f"{self.name}.json") as path:
            path.write_text(json.dumps(state, indent=1))


class _Timer:
    """Something to do every few seconds."""

    def __init__(self, period_s: float, act: Callable[[], object], *, first_s: float = 0.0) -> None:
        self._period_s, self._act = period_s, act
        self._due = time.monotonic() + first_s

    def act_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self._act()
            self._due = time.monotonic() + self._period_s


@dataclass(slots=True)
class _Turn:
    """Stage in progress."""

    lane: LaneRun
    stage: Stage
    trainee: Trainee
    stepper: Stepper
    batch_size: int
    began: float
    deadline: float
    first_loss: float | None = None

    def choose_steps(self) -> None:
        """Takes steps one operation at a time and as a graph, and goes on with the faster."""
        self._steps(_EAGER_STEPS)  # the first ones choose kernels
        eager = self._steps(_EAGER_STEPS)
        before = self.stepper.loss()
        self.stepper.record()
        self._steps(2)
        graph = self._steps(_EAGER_STEPS)
        if graph < eager:
            self.stepper.forget_graph()
        self.lane.log(
            {
                "stage": self.stage.name,
                "eager_steps_s": eager,
                "graph_steps_s": graph,
                "loss_before": before,
                "loss_after": self.stepper.loss(),
            }
        )

    def _steps(self, number: int) -> float:
        """Takes some steps, and returns how many a second."""
        torch.cuda.synchronize()
        started = time.monotonic()
        for _ in range(number):
            self._step()
        torch.cuda.synchronize()
        return number / (time.monotonic() - started)

    def train(self) -> None:
        """Takes steps until the deadline."""
        timers = [
            _Timer(_PULL_S, self.trainee.pull),
            _Timer(_GUARD_S, self._guard),
            _Timer(_LOG_S, self._log, first_s=_FIRST_LOG_S),
            _Timer(_SAVE_S, self._save, first_s=_SAVE_S),
        ]
        most = self.lane.most_steps
        while time.time() < self.deadline and (most is None or self.stepper.steps < most):
            self._step()
            for timer in timers:
                timer.act_if_due()
        self._log()

    def record(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Returns the checkpoint's training record, steps of an earlier stage included."""
        settings = self.stage.settings
        earlier = before or {"steps": 0, "minutes": 0.0, "note": ""}
        notes = [note for note in (earlier["note"], self.stage.note) if note]
        return {
            "steps": earlier["steps"] + self.stepper.steps,
            "minutes": round(earlier["minutes"] + (time.time() - self.began) / 60, 2),
            "batch_size": self.batch_size,
            "learning_rate": settings.learning_rate,
            "examples": max(bank.num_ready for bank in self.trainee.banks),
            "device": device_name(self.lane.shop.device),
            "note": "; then ".join(dict.fromkeys(notes)),
        }

    def _progress(self) -> float:
        return (time.time() - self.began) / max(1e-3, self.deadline - self.began)

    def _step(self) -> None:
        progress = self._progress()
        if self.trainee.on_progress is not None:
            self.trainee.on_progress(progress)
        self.stepper.step(progress)

    def _guard(self) -> None:
        begin, end = self.trainee.unguarded
        if begin <= self._progress() < end:
            self.stepper.forget_best()
        elif not self.stepper.guard():
            self.lane.log({"stage": self.stage.name, "diverged_at_step": self.stepper.steps})

    def _save(self) -> None:
        self.lane.keep_progress(self.stage, self)

    def _log(self) -> None:
        seconds = time.time() - self.began
        loss = self.stepper.loss()
        self.first_loss = loss if self.first_loss is None else self.first_loss
        samples = self.stepper.steps * self.batch_size
        line: dict[str, Any] = {
            "stage": self.stage.name,
            "step": self.stepper.steps,
            "samples": samples,
            "samples_s": samples / seconds,
            "loss": loss,
            "first_loss": self.first_loss,
            "bank": _sizes(self.trainee.banks),
            "mode": "graph" if self.stepper.is_graph else "eager",
        }
        if self.lane.shop.device.type == "cuda":
            line["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.lane.log(line)


def _sizes(banks: Iterable[Bank]) -> str:
    return "+".join(str(bank.num_ready) for bank in banks)


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
