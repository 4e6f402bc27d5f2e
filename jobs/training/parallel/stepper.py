"""Steps of a training that never wait for the device.

Weights are bf16 with float32 masters, instead of autocast, which launches as much work as the
models themselves. On CUDA a whole step, from picking examples to averaging weights, can be recorded
as one graph. A step whose gradients are not finite changes nothing, and no step reads a value from
the device; `Stepper.loss` does, and is called every few seconds.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from overpaint.jobs.training.attention import cpu_attention_in_float32
from overpaint.jobs.training.foreach import copy_all, move_all, total_norm
from overpaint.jobs.training.parallel.recordable import tensors_on
from torch import Tensor, nn

_BETAS = (0.9, 0.99)
_CLIPPED_NORM = 1.0
_MEAN_WEIGHT = 0.01
# Steps that the host may be ahead of the device: the clock decides the learning rate.
_QUEUED_STEPS = 8
_DIVERGED = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """Hyperparameters of an optimizer.

    Attributes:
        learning_rate: peak; linear warm-up, then a cosine over the time of the training.
        warmup_steps: steps from zero to the peak.
        ema_decay: largest decay of the EMA weights.
        final_rate: last learning rate as a fraction of the peak.
        weight_decay: weight decay of AdamW.
        is_half: train bf16 weights with float32 masters; False trains float32 weights.
    """

    learning_rate: float
    warmup_steps: int
    ema_decay: float = 0.9995
    final_rate: float = 0.02
    weight_decay: float = 0.01
    is_half: bool = True


class Stepper:
    """Optimizer, masters and EMA weights of some modules.

    Args:
        modules: modules to train, by name; parameters at rest have `requires_grad` False.
        loss: function that draws a batch and returns its loss, without reading the device.
        settings: hyperparameters.
        device: device of modules and batches.

    Attributes:
        steps: steps that were taken.
        is_graph: True where steps are replays of a CUDA graph.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        loss: Callable[[], Tensor],
        settings: StepSettings,
        device: torch.device,
    ) -> None:
        self.steps = 0
        self._settings, self._device, self._loss = settings, device, loss
        self._modules = nn.ModuleDict(dict(modules)).to(device).train()
        named = dict(self._modules.named_parameters())
        self._names = self._trained_names(named)
        self._rested = sorted(set(named) - set(self._names))
        self._parameters = [named[name] for name in self._names]
        self._masters = self._take_masters()
        self._ema = [master.detach().clone() for master in self._masters]
        self._keep = torch.zeros((), device=device)
        self._last = torch.zeros((), device=device)
        self._mean = torch.zeros((), device=device)
        self._skipped = torch.zeros((), device=device)
        self._scale = 1.0
        self._best = math.inf
        self._guarded = (0, 0.0)
        self._snapshot: list[Tensor] = []
        self._graph: Any = None
        self._queue: deque[Any] = deque()
        self._optimizer = self._build_optimizer()

    @property
    def is_graph(self) -> bool:
        """True where steps are replays of a CUDA graph."""
        return self._graph is not None

    def step(self, progress: float) -> None:
        """Takes a step.

        Args:
            progress: used fraction of the training's time, 0 to 1.
        """
        self._set_rates(progress)
        if self._graph is None:
            self._take_step()
        else:
            self._graph.replay()
        if self.steps == 0:
            self._mean.copy_(self._last)
        self.steps += 1
        self._limit_queue()

    def record(self) -> None:
        """Records the step as a CUDA graph, which later steps replay.

        Steps must have been taken before: they create the optimizer's state.

        Raises:
            RuntimeError: an operation cannot be recorded; the process should then start anew.
        """
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._take_step()
        self._graph = graph

    def forget_graph(self) -> None:
        """Goes on without the recorded graph."""
        self._graph = None

    def loss(self) -> float:
        """Returns the mean loss of the last steps; waits for the device."""
        return float(self._mean)

    def guard(self) -> bool:
        """Keeps a copy of a sound state, and goes back to it from a diverged one.

        A state has diverged where the mean loss is over twice its best, or most steps since the
        last call were not finite. Going back halves the learning rate.

        Returns:
            True where the state was sound.
        """
        loss, skipped = self.loss(), float(self._skipped)
        steps_before, skipped_before = self._guarded
        self._guarded = (self.steps, skipped)
        is_stuck = 2 * (skipped - skipped_before) > self.steps - steps_before
        if is_stuck or (self._snapshot and loss > _DIVERGED * self._best):
            copy_all(self._snapshot, self._state())
            self._scale *= 0.5
            return False
        self._best = min(self._best, loss)
        self._snapshot = [tensor.clone() for tensor in self._state()]
        return True

    def forget_best(self) -> None:
        """Forgets the state to go back to: from now on the loss means something else."""
        self._best = math.inf
        self._snapshot = []

    def ema_weights(self) -> dict[str, Tensor]:
        """Returns the EMA weights and those at rest, fp16 on the CPU, by module and name."""
        named = dict(self._modules.named_parameters())
        averaged = zip(self._names, self._ema, strict=True)
        weights = {name: value.half().cpu().contiguous() for name, value in averaged}
        at_rest = {name: named[name].detach().half().cpu().contiguous() for name in self._rested}
        return weights | at_rest

    def _trained_names(self, named: Mapping[str, nn.Parameter]) -> list[str]:
        """Returns the parameters that are not at rest and that the loss depends on."""
        names = [name for name, parameter in named.items() if parameter.requires_grad]
        parameters = [named[name] for name in names]
        gradients = torch.autograd.grad(self._loss(), parameters, allow_unused=True)
        both = zip(names, cast("tuple[Tensor | None, ...]", gradients), strict=True)
        return [name for name, gradient in both if gradient is not None]

    @torch.no_grad()
    def _take_masters(self) -> list[Tensor]:
        if not self._settings.is_half:
            return list(self._parameters)
        masters = [p.detach().float().clone().requires_grad_() for p in self._parameters]
        for parameter in self._modules.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        return masters

    def _build_optimizer(self) -> torch.optim.AdamW:
        on_cuda = self._device.type == "cuda"
        optimizer = torch.optim.AdamW(
            self._masters,
            lr=self._settings.learning_rate,
            betas=_BETAS,
            weight_decay=self._settings.weight_decay,
            fused=True,
            capturable=on_cuda,
        )
        if on_cuda:
            # Given to the constructor, it would be compared on the host.
            optimizer.param_groups[0]["lr"] = torch.zeros((), device=self._device)
        for master in self._masters:
            master.grad = torch.zeros_like(master)
        return optimizer

    def _set_rates(self, progress: float) -> None:
        settings = self._settings
        warmup = min(1.0, (self.steps + 1) / settings.warmup_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        decayed = settings.final_rate + (1.0 - settings.final_rate) * cosine
        rate = self._scale * settings.learning_rate * warmup * decayed
        group = self._optimizer.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        decay = min(settings.ema_decay, (1 + self.steps) / (10 + self.steps))
        self._keep.fill_(1.0 - decay)

    def _take_step(self) -> None:
        with tensors_on(self._device), cpu_attention_in_float32(self._device):
            loss = self._loss()
        gradients = torch.autograd.grad(loss, self._parameters)
        masters = self._masters
        kept: Any = [master.grad for master in masters]
        copy_all(gradients, kept)
        norm = total_norm(kept)
        # AdamW divides by the one, and leaves all as it is where the other is 1: it clips gradients
        # and skips steps that are not finite, and the host need not know.
        optimizer: Any = self._optimizer
        optimizer.grad_scale = 1.0 / torch.clamp(_CLIPPED_NORM / (norm + 1e-6), max=1.0)
        optimizer.found_inf = (~torch.isfinite(norm)).float()
        optimizer.step()
        with torch.no_grad():
            if self._settings.is_half:
                copy_all(masters, self._parameters)
            move_all(self._ema, masters, self._keep)
            self._skipped.add_(optimizer.found_inf)
            self._last.copy_(loss.detach())
            self._mean.lerp_(torch.nan_to_num(loss.detach().float()), _MEAN_WEIGHT)

    def _limit_queue(self) -> None:
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()
        event.record()
        self._queue.append(event)
        if len(self._queue) > _QUEUED_STEPS:
            self._queue.popleft().synchronize()

    def _state(self) -> list[Tensor]:
        moments = [v for s in self._optimizer.state.values() for v in s.values()]
        return [*(m.detach() for m in self._masters), *self._ema, *moments, self._mean]
