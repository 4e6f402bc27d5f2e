"""Optimisation of something of each row, in one step of its inverted trajectory.

Shapes: b rows; the rest of a value's shape is its own.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from overpaint.operators.controls.row_adam import RowAdam
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.fitting import FitMethod
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


def fit_rows(
    batch: Batch,
    values: "Sequence[Tensor]",
    loss: "Callable[[Sequence[Tensor]], Tensor]",
    *,
    learning_rate: float,
    num_inner_steps: int,
    stop_below: float = 0.0,
    is_done: "Callable[[], Tensor] | None" = None,
) -> "list[Tensor]":
    """Returns values after some steps of Adam; a row whose loss is low enough keeps its own.

    Args:
        batch: rows; the backward passes are counted.
        values: where to start, a row each.
        loss: returns the loss b of each row, which depends on that row alone.
        learning_rate: step size.
        num_inner_steps: steps, at most.
        stop_below: loss below which a row is done.
        is_done: returns bool b, the rows that are done by what `loss` saw last, instead of those
            whose loss is below `stop_below`.
    """
    import torch

    values = list(values)
    optimizers = [RowAdam(learning_rate) for _ in values]
    active = torch.ones(len(batch.requests), dtype=torch.bool, device=batch.model.device)
    for _ in range(num_inner_steps):
        with torch.enable_grad():
            values = [value.detach().requires_grad_() for value in values]
            losses = loss(values)
            gradients = torch.autograd.grad(losses.sum(), values)
        batch.model.spend(Cost(backward=len(losses)))
        values = [
            optimizer.step(value.detach(), gradient, active)
            for optimizer, value, gradient in zip(optimizers, values, gradients, strict=True)
        ]
        active &= ~is_done() if is_done else losses.detach() >= stop_below
        if not bool(active.any()):
            break
    return [value.detach() for value in values]


def path_error(batch: Batch, step: Step, latents_bchw: "Tensor") -> "Tensor":
    """Returns each row's mean squared distance b from its trajectory after a step."""
    error = latents_bchw - batch.trajectory_sbchw[step.index + 1]
    return error.square().flatten(1).mean(dim=1)


class PathFit(FitMethod):
    """A fit in each step of the trajectory, so that guided steps stay on it."""

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the edit should be the same."""
    num_inner_steps: int = Field(default=10, ge=1, le=100)
    """Optimisation steps in each sampling step."""
    learning_rate: float = Field(default=0.01, gt=0, le=10)
    """Learning rate of the first sampling step; it falls to half until the last."""
    early_stop_epsilon: float = Field(default=1e-5, ge=0)
    """Loss of the first sampling step below which a row is done; it grows by twice as much in each
    step. 0 never stops early."""

    def inner_steps(self, index: int) -> int:
        """Returns the optimisation steps in a sampling step, by its index."""
        del index
        return self.num_inner_steps

    def fitted(
        self,
        batch: Batch,
        step: Step,
        values: "Sequence[Tensor]",
        moved: "Callable[[Sequence[Tensor]], Tensor]",
        more: "Callable[[], Tensor] | None" = None,
    ) -> "list[Tensor]":
        """Returns values after the optimisation of a sampling step.

        Args:
            batch: rows.
            step: sampling step.
            values: where to start, a row each.
            moved: returns the latents bchw after the step with some values.
            more: returns a further loss b, of what `moved` has recorded.
        """

        def loss(values: "Sequence[Tensor]") -> "Tensor":
            error = path_error(batch, step, moved(values))
            return error if more is None else error + more()

        return fit_rows(
            batch,
            values,
            loss,
            learning_rate=self.learning_rate * (1.0 - step.index / (2 * len(batch.schedule.steps))),
            num_inner_steps=self.inner_steps(step.index),
            stop_below=self.early_stop_epsilon * (1 + 2 * step.index),
        )
