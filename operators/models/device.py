"""Device and number type of a model."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DtypeName = Literal["float32", "bfloat16", "float16"]
"""The number types that a recipe may name."""


def device() -> "torch.device":
    """The accelerator that this actor was given, or the CPU where it was given none.

    Ray hides the GPUs that an actor did not reserve, so that what is visible is what is ours.
    """
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def torch_dtype(name: DtypeName) -> "torch.dtype":
    """The number type of that name."""
    import torch

    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]
