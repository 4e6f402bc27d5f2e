"""EBCA (arXiv 2306.09869): edits by energy-based composition of cross-attention.

The source is sampled from its inverted noise under its own prompt. In each cross-attention layer
the reading of the target prompt is added and that of the source prompt taken away, after both have
descended an energy that ties them to the picture.
"""

from collections.abc import Mapping
from dataclasses import replace

from overpaint.operators.controls.context_energy import ComposeConcepts, Concept
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field, model_validator


class EBCA(LatentMethod):
    """Energy-based cross-attention: the target prompt added to the source prompt, the old taken.

    Editorial contexts are whole prompts, where the official examples name concepts. As there for
    real images, the source prompt is the main context, which does not descend, and the negative
    one. The official code lets contexts drift through all steps: `carry_contexts`.
    """

    papers = ("2306.09869",)
    family = "F05"
    edit_types = ("replace", "texture", "style", "background")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of the guidance away from the source prompt; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    alpha_new: float = Field(default=0.75, ge=0, le=10)
    """Weight of the target prompt; 0.6 to 0.75 in the official examples."""
    alpha_old: float = Field(default=0.65, ge=0, le=10)
    """Weight with which the source prompt is taken away; 0.5 to 0.65 in the official examples."""
    alpha_tau: float = Field(default=0.3, ge=0, le=1)
    """Share of the walked steps before prompts are composed; 0.3 to 0.5 in the official
    examples."""
    gamma_attn: float = Field(default=1e-3, ge=0, le=1)
    """Step size of a context towards what queries look for; 4e-4 to 1e-3 officially."""
    gamma_norm: float = Field(default=1e-3, ge=0, le=1)
    """Step size of the regularization of a context; 4e-4 to 1e-3 officially."""
    gamma_tau: float = Field(default=0.3, ge=0, le=1)
    """Share of the walked steps before contexts descend; 0.3 to 0.5 officially."""
    carry_contexts: bool = False
    """Contexts that go on from step to step, as in the official code, not anew in each."""

    @model_validator(mode="after")
    def _weights_have_a_sum(self) -> "EBCA":
        if self.alpha_old > self.alpha_new + 0.9:
            raise ValueError(
                f"alpha_old = {self.alpha_old}: it takes away all that there is with "
                f"alpha_new = {self.alpha_new}"
            )
        return self

    def branches(self) -> Mapping[str, Window]:
        """Returns `text`, and `negative` where there is guidance."""
        names = ("text",) if self.guidance_scale == 1.0 else ("text", "negative")
        return dict.fromkeys(names, ALL_STEPS)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts both prompts; contexts are read inside a call of the network."""
        return replace(super().cost(num_inference_steps), text=2)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's prompt in both branches."""
        source = batch.prompts(batch.source_prompts())
        target = batch.prompts([request.prompt for request in batch.requests])
        alpha_steps, gamma_steps = (
            batch.window((tau, 1.0)) for tau in (self.alpha_tau, self.gamma_tau)
        )
        concepts = [
            Concept(
                tokens_btc=prompts.tokens_bsd,
                weight=weight,
                gamma_attn=self.gamma_attn,
                gamma_norm=self.gamma_norm,
                alpha_steps=alpha_steps,
                gamma_steps=gamma_steps,
            )
            for prompts, weight in ((target, self.alpha_new), (source, -self.alpha_old))
        ]
        steps = max(alpha_steps, gamma_steps, key=len)
        compose = ComposeConcepts(concepts=concepts, steps=steps, carry=self.carry_contexts)
        inputs = BranchInputs(prompts=source)
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            branches={"text": inputs, "negative": inputs},
            attention=AttentionEdits(contexts=[compose]),
            hooks=[keep_outside_on_trajectory(batch)],
        )
