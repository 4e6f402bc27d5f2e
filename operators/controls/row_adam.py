"""Adam for a batch of unrelated rows.

Shapes: b rows; the rest of a value's shape is its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False, slots=True)
class RowAdam:
    """Adam (arXiv 1412.6980) whose rows can stop, for good: those keep their value.

    Attributes:
        learning_rate: step size.
        betas: decay of the two moments.
        eps: added to the denominator.
        steps: number of steps so far.
        first: first moment; None before the first step.
        second: second moment; None before the first step.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    steps: int = 0
    first: "Tensor | None" = None
    second: "Tensor | None" = None

    def step(self, value_b: "Tensor", gradient_b: "Tensor", active_b: "Tensor") -> "Tensor":
        """Returns the values after a step.

        Args:
            value_b: values, a row each.
            gradient_b: gradient of each row's own loss.
            active_b: bool, the rows that are not done; one that is done stays so.
        """
        if self.first is None or self.second is None:
            self.first, self.second = gradient_b * 0.0, gradient_b * 0.0
        self.steps += 1
        beta1, beta2 = self.betas
        self.first = self.first.lerp(gradient_b, 1.0 - beta1)
        self.second = self.second.lerp(gradient_b.square(), 1.0 - beta2)
        mean = self.first / (1.0 - beta1**self.steps)
        spread = (self.second / (1.0 - beta2**self.steps)).sqrt() + self.eps
        active = active_b.view(-1, *[1] * (value_b.dim() - 1))
        return (value_b - self.learning_rate * mean / spread).where(active, value_b)
