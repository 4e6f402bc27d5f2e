"""What `invert` hands to `edit`: one source's path to noise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.framing.frame import Frame
from overpaint.operators.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inversion:
    """A source's path to noise; it never leaves its actor.

    Attributes:
        checkpoint: what it was made with.
        identity: its exact weights.
        frame: what the model saw of the source.
        prompt: what the model was told of the source.
        path_scyx: float32 latents, the noise first and the clean latents last; one more than steps.
    """

    checkpoint: Checkpoint
    identity: str
    frame: Frame
    prompt: str
    path_scyx: "Tensor"

    @property
    def num_inference_steps(self) -> int:
        """Steps between noise and clean latents."""
        return len(self.path_scyx) - 1
