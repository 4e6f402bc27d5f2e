"""The values that `invert` hands to `edit`; they never leave their actor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.framing.frame import Frame
from overpaint.operators.models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inverted:
    """The part of an inversion that all kinds of inversion share.

    Attributes:
        checkpoint: weights that inverted the source.
        identity: revision or digest of those weights.
        frame: part of the source that the model saw, and its size there.
        prompt: source prompt.
        num_inference_steps: steps of the schedule.
    """

    checkpoint: Checkpoint
    identity: str
    frame: Frame
    prompt: str
    num_inference_steps: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedEmbeds(Inverted):
    """Token embeddings that were fitted to one source, for every step.

    Attributes:
        tokens_ntd: float32, n steps from the noisiest on, t tokens, d channels.
    """

    tokens_ntd: "Tensor"

    def is_finite(self) -> bool:
        """Tells whether the fit has not failed."""
        return bool(self.tokens_ntd.isfinite().all())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedWords(FittedEmbeds):
    """Negative embeddings that were fitted to one source, and those of its prompt's fitted words.

    Attributes:
        source_ntd: float32, the source prompt's token embeddings, as `tokens_ntd`.
    """

    source_ntd: "Tensor"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InvertedPath(Inverted):
    """The trajectory of one source from noise to clean latents.

    Attributes:
        trajectory_schw: float32 latents, the noise first and the clean latents last; one entry
            more than there are steps.
    """

    trajectory_schw: "Tensor"

    def is_finite(self) -> bool:
        """Tells whether the model has not failed."""
        return bool(self.trajectory_schw.isfinite().all())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InvertedResiduals(InvertedPath):
    """The trajectory of one source by a noisy chain, and what each of its steps needs.

    Attributes:
        residuals_schw: float32; latents after each step less the mean of that step.
        eta: share of DDPM's spread that the steps have.
    """

    residuals_schw: "Tensor"
    eta: float

    def is_finite(self) -> bool:
        """Tells whether the model has not failed."""
        return bool(self.residuals_schw.isfinite().all())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InvertedPair(InvertedPath):
    """The trajectory of one source by a coupled pair of latents, float64.

    Its latents have the channels of the first member before those of the second.

    Attributes:
        mixing_coeff: share of a member that the mixing after a step leaves to it.
    """

    mixing_coeff: float
