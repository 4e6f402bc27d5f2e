"""Delta Denoising Score (arXiv 2304.07090): optimises the latents, with no inversion.

The score of the target prompt at the edited latents has the bias of any score; that of the source
prompt at the source, at the same level with the same noise, has it as well. Their difference moves
the latents only where the prompts differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row, first_text
from overpaint.pipeline.cost import Cost
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DeltaStep:
    """One step of the optimisation.

    Attributes:
        batch: rows.
        step: level of the scores.
        source: prompts of the source's score, by branch.
        target: prompts of the edit's score, by branch.
        edited_bchw: latents so far.
        noise_bchw: unit noise of both scores.
        generators: each row's own.
    """

    batch: Batch
    step: Step
    source: "Mapping[str, PromptEmbeds]"
    target: "Mapping[str, PromptEmbeds]"
    edited_bchw: "Tensor"
    noise_bchw: "Tensor"
    generators: "Sequence[Generator]"

    def noised(self, x0_bchw: "Tensor") -> "Tensor":
        """Returns clean latents at the level of the step."""
        return self.step.noised(x0_bchw, self.noise_bchw)


class DDS(TextGuided, Framed):
    """Latents moved by the difference of the scores of target and source prompt."""

    papers = ("2304.07090",)
    family = "F14"
    edit_types = ("color", "replace", "remove", "texture", "style")
    needs = (c.SOURCE_PROMPT,)

    num_inference_steps: int = Field(default=200, ge=1, le=1000)
    """Optimisation steps; `num_iters` is 200 in the official code."""
    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance of both scores; 7.5 in the official code."""
    learning_rate: float = Field(default=0.0488, gt=0, le=10)
    """Step size on the latents; the official code's 0.1 on 2000 times the mean over 64 x 64."""
    t_min: int = Field(default=50, ge=0, le=999)
    """Least timestep, of 1000; 50 in the official code."""
    t_max: int = Field(default=950, ge=1, le=1000)
    """Timestep that the noisiest is below; 950 in the official code."""
    timestep_sampling: Literal["uniform", "stratified"] = "uniform"
    """`uniform` draws timesteps as the paper does, `stratified` one from each equal part of their
    range, in any order, which a few steps gain by."""
    timestep_seed: int = Field(default=0, ge=0)
    """Seed of the timesteps, which all rows share."""

    @model_validator(mode="after")
    def _timesteps_are_a_range(self) -> "DDS":
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min = {self.t_min}: it must be less than t_max = {self.t_max}")
        return self

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the row's prompts, that of the source among them."""
        source = first_text(row, c.SOURCE_PROMPT)
        return {**super().prompts(row), **({c.SOURCE_PROMPT.name: source} if source else {})}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts both scores of each step."""
        forward = 2 * len(self.branches()) * num_inference_steps
        return Cost(forward=forward, vae_encode=1, vae_decode=1, text=2)

    def timesteps(self) -> list[int]:
        """Returns the timesteps in the order in which they are used."""
        # Only the sequence of `random` is the same in every version of Python.
        random, count, width = Random(self.timestep_seed).random, self.num_inference_steps, 1.0
        parts = [0.0] * count
        if self.timestep_sampling == "stratified":
            width = 1.0 / count
            parts = sorted((part * width for part in range(count)), key=lambda _: random())
        span = self.t_max - self.t_min
        return [self.t_min + int((part + random() * width) * span) for part in parts]

    def edited(self, batch: Batch) -> "Tensor":
        """Descends along the gradient of each step, inside the mask."""
        from overpaint.operators.diffusion import latents

        source, target = self._prompts(batch)
        generators = latents.make_generators([request.seed for request in batch.requests])
        edited = batch.source_latents
        for step in map(batch.schedule.at, self.timesteps()):
            delta = DeltaStep(
                batch=batch,
                step=step,
                source=source,
                target=target,
                edited_bchw=edited,
                noise_bchw=latents.draw_noise(generators, edited),
                generators=generators,
            )
            edited = edited - self.learning_rate * batch.mask_b1hw * self.gradient(delta)
        return edited

    def gradient(self, delta: DeltaStep) -> "Tensor":
        """Returns the difference of the guided noises of the edit and the source, bchw."""
        edited, source = delta.noised(delta.edited_bchw), delta.noised(delta.batch.source_latents)
        target_predictions = delta.batch.predict(edited, delta.step, delta.target)
        source_predictions = delta.batch.predict(source, delta.step, delta.source)
        return self.eps(delta, edited, target_predictions) - self.eps(
            delta, source, source_predictions
        )

    def eps(
        self, delta: DeltaStep, latents_bchw: "Tensor", predictions: "Mapping[str, Tensor]"
    ) -> "Tensor":
        """Returns the guided noise bchw that predictions at some latents mean."""
        state = StepState(step=delta.step, latents_bchw=latents_bchw, predictions=predictions)
        return delta.batch.eps(latents_bchw, delta.step, self.guidance(state))

    def _prompts(self, batch: Batch) -> "list[Mapping[str, PromptEmbeds]]":
        """Returns the embedded prompts of the scores of source and target."""
        sources = [request.values[c.SOURCE_PROMPT.name] for request in batch.requests]
        targets = [request.prompt for request in batch.requests]
        negative = {"negative": batch.negative_prompts(self.negative_prompt)}
        unguided = "negative" not in self.branches()
        return [
            {"text": batch.prompts(prompts), **({} if unguided else negative)}
            for prompts in (sources, targets)
        ]
