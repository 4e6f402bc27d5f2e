"""InjectFusion (arXiv 2303.15403): content of one picture injected into the features of another.

Features of the middle block (h-space) are mixed with those of the content along its own inverted
path. The mixture moves the clean latents of each step, the plain prediction the noise.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.references import framed_references
from overpaint.operators.controls.sharing import MixFeature
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Step, Window, steps_in
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import FreshNoise
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK, REFERENCES
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from overpaint.operators.diffusion.sampling import Branch
    from torch import Tensor


class _Sides(NamedTuple):
    """Inverted pictures: the one that is sampled again, and the one whose content is injected.

    Attributes:
        base: trajectory, from noise on.
        base_prompts: prompts of its inversion.
        content: trajectory of the content.
        content_prompts: prompts of its inversion.
    """

    base: "list[Tensor]"
    base_prompts: "PromptEmbeds"
    content: "list[Tensor]"
    content_prompts: "PromptEmbeds"


class InjectFusion(LatentMethod):
    """Content injection in h-space, with asymmetric steps and latent calibration.

    Models of the paper know no text: here each picture has the prompt of its inversion, the source
    its own and the reference the empty one, and there is no guidance by text.
    """

    papers = ("2303.15403",)
    family = "F06"
    edit_types = ("style", "texture")
    prompt = c.SOURCE_PROMPT
    needs = (c.INVERTED_PATH, REFERENCES)
    uses = (MASK,)

    inject: Literal["reference", "source"] = "reference"
    """Picture whose content is injected into the other, which keeps its colours and background."""
    h_gamma: float = Field(default=0.3, ge=0, le=1)
    """Share of the content in the mixture; 0.3 in the official script."""
    user_defined_t_edit: float = Field(default=0.4, ge=0, le=1)
    """Share of the way to noise above which content is injected; 400 of 1000 officially."""
    t_boost: float = Field(default=0.2, ge=0, le=1)
    """Share of the way to noise below which steps have DDPM's noise; 200 of 1000 in the paper, 0
    for artistic styles."""
    omega: float = Field(default=0.0, ge=0, le=10)
    """Weight of the noise in latent calibration, which takes one more prediction in a step with
    content; 0, officially, takes asymmetric steps."""

    @property
    def _injected(self) -> Window:
        return (0.0, 1.0 - self.user_defined_t_edit)

    def branches(self) -> Mapping[str, Window]:
        """Returns the plain prediction, and that with content beside the content's own."""
        return {"plain": ALL_STEPS, "text": self._injected, "content": self._injected}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the inversion of the reference, and calibration."""
        injected = len(steps_in(self._injected, self.walked(num_inference_steps)))
        forward = 2 * num_inference_steps + (3 if self.omega else 2) * injected
        return Cost(forward=forward, vae_encode=1, vae_decode=1, text=1)

    def edited(self, batch: Batch) -> "Tensor":
        """Samples the one picture again, with the content of the other."""
        from overpaint.operators.diffusion.latents import draw_noise

        sides = self._sides(batch)
        injected, boosted = (
            batch.window(window) for window in (self._injected, (1.0 - self.t_boost, 1.0))
        )
        noise = FreshNoise(generators=batch.generators)
        keep = keep_outside_on_trajectory(batch)
        latents = sides.base[0]
        for step in batch.steps:
            before, sigma = latents, noise.sigma(step) if step.index in boosted else 0.0
            if step.index in injected:
                latents = self._step_with_content(batch, step, latents, sides, sigma)
            else:
                plain = batch.predict(latents, step, {"plain": sides.base_prompts})["plain"]
                latents = batch.advance(latents, step, plain, sigma)
            if step.index in boosted:
                latents = latents + sigma * draw_noise(batch.generators, latents)
            latents = keep(latents, StepState(step=step, latents_bchw=before, predictions={}))
        return latents

    def _step_with_content(
        self, batch: Batch, step: Step, latents: "Tensor", sides: _Sides, sigma: float
    ) -> "Tensor":
        """Returns the mean of the latents bchw after a step in which content is injected."""
        from overpaint.operators.diffusion.sampling import ddim_step, predict, to_x0_and_eps

        mix = MixFeature(share=self.h_gamma, source="content", to="text", steps=batch.walked)
        edits = AttentionEdits(features=[mix])
        said = predict(batch.model, latents, step, _branches(sides), edits)
        kind = batch.schedule.prediction_type
        x0, eps = to_x0_and_eps(said["plain"], latents, step.alpha_bar, kind)
        mixed_x0, mixed_eps = to_x0_and_eps(said["text"], latents, step.alpha_bar, kind)
        if not self.omega:
            return ddim_step(mixed_x0, eps, step, sigma)
        moved = step.alpha_bar**0.5 * (_with_spread_of(mixed_x0, x0) - x0)
        moved = moved + self.omega * (1.0 - step.alpha_bar) ** 0.5 * (mixed_eps - eps)
        calibrated = latents + moved
        plain = batch.predict(calibrated, step, {"plain": sides.base_prompts})["plain"]
        return batch.advance(calibrated, step, plain, sigma)

    def _sides(self, batch: Batch) -> _Sides:
        """Inverts the references; returns both pictures in their roles."""
        from overpaint.operators.diffusion.sampling import ddim_inversion

        empty, prompts = batch.negative_prompts(""), batch.prompts(batch.source_prompts())
        predictor = batch.predictor({"text": empty}, ClassifierFree(guidance_scale=1.0))
        latents = batch.encode(framed_references(batch)).contiguous()
        reference = ddim_inversion(
            latents, batch.schedule, predictor, lambda back, last: back(last)
        )
        source = list(batch.trajectory_sbchw)
        if self.inject == "reference":
            return _Sides(source, prompts, reference, empty)
        return _Sides(reference, empty, source, prompts)


def _branches(sides: _Sides) -> "dict[str, Branch]":
    """Returns the branches of a step in which content is injected."""
    from overpaint.operators.diffusion.sampling import Branch

    base = Branch(prompts=sides.base_prompts)
    content = Branch(prompts=sides.content_prompts, latents=lambda step: sides.content[step.index])
    return {"plain": base, "text": base, "content": content}


def _with_spread_of(x0_bchw: "Tensor", other_bchw: "Tensor") -> "Tensor":
    """Returns clean latents with the standard deviation of others, about their own mean, by row."""
    dims = (1, 2, 3)
    mean, spread = x0_bchw.mean(dim=dims, keepdim=True), x0_bchw.std(dim=dims, keepdim=True)
    scale = other_bchw.std(dim=dims, keepdim=True) / spread.clamp_min(1e-12)
    return mean + scale * (x0_bchw - mean)
