"""Contrastive Denoising Score (arXiv 2311.18608): DDS that keeps the source's structure.

Beside the difference of the scores, a contrast of self-attention features moves the latents: each
place of the edit should resemble its own place of the source more than any other.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from overpaint.operators.controls.contrast import RecordSelfAttention, patch_nce
from overpaint.operators.methods.dds import DDS, DeltaStep
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class CDS(DDS):
    """DDS with a contrast of self-attention features, which keeps the source's structure."""

    papers = ("2311.18608", "2304.07090")
    edit_types = ("replace", "style", "texture", "color")

    w_dds: float = Field(default=1.0, ge=0, le=100)
    """Weight of the difference of the scores; 1 in the official code."""
    w_cut: float = Field(default=3.0, ge=0, le=1000)
    """Weight of the contrast; 3 in the official code. 0 is DDS."""
    cut_learning_rate: float = Field(default=0.1, gt=0, le=10)
    """Step size of the contrast; the official code's optimiser has 0.1."""
    n_patches: int = Field(default=256, ge=1, le=65536)
    """Patches of a layer that are compared, drawn anew in each step; 256 in the official code."""
    patch_size: tuple[int, ...] = Field(default=(1, 2), min_length=1)
    """Sides of the patches, in places of a layer's grid; 1 and 2 in the official code."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the scores as DDS does, and the backward pass of the edit's prediction."""
        backward = Cost(backward=num_inference_steps if self.w_cut else 0)
        return super().cost(num_inference_steps) + backward

    def gradient(self, delta: DeltaStep) -> "Tensor":
        """Returns the gradient bchw of both losses, in units of `learning_rate`.

        The official code predicts at the edit's latents a second time for the contrast; here the
        score's own prediction has the features.
        """
        if not self.w_cut:
            return self.w_dds * super().gradient(delta)
        recorder = RecordSelfAttention(branch="text")
        x = delta.noised(delta.batch.source_latents)
        source = self.eps(
            delta, x, delta.batch.predict(x, delta.step, delta.source, recorder.edits)
        )
        target, contrast = self._target(delta, recorder.outputs)
        share = self.w_cut * self.cut_learning_rate / self.learning_rate
        return self.w_dds * (target - source) + share * contrast

    def _target(self, delta: DeltaStep, source: "Mapping[str, Tensor]") -> "tuple[Tensor, Tensor]":
        """Returns the edit's guided noise, and the gradient of its contrast to some features."""
        import torch

        recorder = RecordSelfAttention(branch="text")
        prompts = dict(delta.target)
        with torch.enable_grad():
            edited = delta.edited_bchw.detach().requires_grad_()
            # Only the prediction that has a gradient keeps what a backward pass needs.
            text = {"text": prompts.pop("text")}
            y = delta.noised(edited)
            predictions = delta.batch.predict(y, delta.step, text, recorder.edits)
            loss = patch_nce(
                source,
                recorder.outputs,
                patch_sizes=self.patch_size,
                num_patches=self.n_patches,
                generators=delta.generators,
            )
            (gradient,) = torch.autograd.grad(loss.sum(), edited)
        delta.batch.model.spend(Cost(backward=len(edited)))
        y, text_prediction = y.detach(), predictions["text"].detach()
        others = delta.batch.predict(y, delta.step, prompts) if prompts else {}
        return self.eps(delta, y, {"text": text_prediction, **others}), gradient
