"""Operations on many tensors at once, as torch's own optimizers use them."""

# torch documents no other way to them.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Sequence

import torch
from torch import Tensor


def copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Copies each source into its target."""
    torch._foreach_copy_([*targets], [*sources])


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the Euclidean norm of all entries together, a scalar on their device."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm([*tensors])))


def move_all(tensors: Sequence[Tensor], goals: Sequence[Tensor], share: Tensor) -> None:
    """Moves each tensor towards its goal, by a share that stays on the device."""
    # A lerp with a weight on the device would read it on the host.
    steps = torch._foreach_sub([*goals], [*tensors])
    torch._foreach_mul_(steps, share)
    torch._foreach_add_([*tensors], steps)
