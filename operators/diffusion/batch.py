"""A batch of rows on its way through a method: prompts, latents, noise and masks as tensors.

Nothing here imports torch before a batch is made, so that methods can name these types.

Shapes: b rows, s steps, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.attention import NO_EDITS, AttentionEdits
from overpaint.operators.diffusion.energy import EnergyGuidance
from overpaint.operators.diffusion.inversion import InvertedPath
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import (
    Step,
    Window,
    steps_in,
)
from overpaint.operators.diffusion.state import Guidance, Hook, StepState
from overpaint.operators.diffusion.step_noise import NONE, StepNoise
from overpaint.pipeline.conditions import REFERENCES
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from overpaint.operators.diffusion.latents import NoisedSource
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from overpaint.operators.diffusion.sampling import Branch, Predictor
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchInputs:
    """Inputs of a branch where they are not those that its name stands for.

    Attributes:
        prompts: embedded prompts, the same in all steps or by step.
        latents: latents of its own by step.
        channels_bchw: more input channels of the UNet.
        task_label: task of a UNet that knows task labels, of all rows or of each.
    """

    prompts: "PromptEmbeds | Callable[[Step], PromptEmbeds] | None" = None
    latents: "Callable[[Step], Tensor] | None" = None
    channels_bchw: "Tensor | None" = None
    task_label: int | Sequence[int] = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The start of a run and everything that steers it.

    Attributes:
        start_bchw: latents at the level before the first walked step.
        guidance: makes one prediction of those of all branches; None takes that of `text`.
        hooks: correct the latents after each step, in order.
        attention: edits of attention.
        noise: noise of the steps.
        energy: energy that the run lowers beside its guidance, of the branch `text`.
        branches: inputs of branches, by name, where they are not the usual ones.
        negative_prompt: negative prompt of every row.
        sampler: walks the steps; None takes `sampling.denoise`.
    """

    start_bchw: "Tensor"
    guidance: Guidance | None = None
    hooks: Sequence[Hook] = ()
    attention: AttentionEdits = NO_EDITS
    noise: StepNoise = NONE
    energy: EnergyGuidance | None = None
    branches: Mapping[str, BranchInputs] = field(default_factory=dict[str, BranchInputs])
    negative_prompt: str = ""
    sampler: "Callable[..., Tensor] | None" = None


class Batch:
    """A full batch of rows with frames of one size.

    Args:
        requests: rows.
        model: their model.
        num_inference_steps: steps of the schedule; None takes those of the rows' inversion.
        walked: returns the indices of the steps that are walked.
    """

    def __init__(
        self,
        requests: Sequence[EditRequest],
        model: "LatentModel",
        *,
        num_inference_steps: int | None,
        walked: Callable[[int], range],
    ) -> None:
        self.requests = requests
        self.model = model
        if num_inference_steps is None:
            num_inference_steps = len(self.trajectory_sbchw) - 1
        self.schedule = model.schedule(num_inference_steps, requests[0].picture.shape[:2])
        self.walked = walked(num_inference_steps)

    @property
    def steps(self) -> Sequence[Step]:
        """The steps that are walked, from noisy to clean."""
        return self.schedule.steps[self.walked.start : self.walked.stop]

    @cached_property
    def source(self) -> "NoisedSource":
        """The sources' latents at any noise level, each with noise from its row's generator."""
        from overpaint.operators.diffusion.latents import NoisedSource

        return NoisedSource(x0_bchw=self.source_latents, noise_bchw=self.noise)

    @cached_property
    def source_latents(self) -> "Tensor":
        """Clean latents bchw of the sources."""
        return self.encode([request.picture for request in self.requests])

    @property
    def contiguous_source_latents(self) -> "Tensor":
        """The sources' latents in the memory layout of those that inversions hand on.

        Convolutions round otherwise in another layout: where an edit must repeat the predictions of
        an inversion to the bit, the inversion starts from these.
        """
        return self.source_latents.contiguous()

    @cached_property
    def generators(self) -> "list[Generator]":
        """Each row's own generator, from its seed."""
        from overpaint.operators.diffusion import latents

        return latents.make_generators([request.seed for request in self.requests])

    @cached_property
    def noise(self) -> "Tensor":
        """Unit noise bchw, each row from its own generator: the first that it draws."""
        from overpaint.operators.diffusion import latents

        return latents.draw_noise(self.generators, self.source_latents)

    @cached_property
    def inverted(self) -> Sequence[InvertedPath]:
        """The rows' inverted sources; none where the method reads no inversion."""
        values = [value for request in self.requests for value in request.values.values()]
        return [value for value in values if isinstance(value, InvertedPath)]

    @cached_property
    def trajectory_sbchw(self) -> "Tensor":
        """The rows' inverted trajectories, from noise to clean; one entry more than steps."""
        import torch

        return torch.stack([path.trajectory_schw for path in self.inverted], dim=1)

    @cached_property
    def mask_b1hw(self) -> "Tensor":
        """The share of each latent pixel that may change, 0-1; 1 everywhere without a mask."""
        from overpaint.operators.diffusion.latents import latent_masks

        masks = [
            np.ones(request.picture.shape[:2], np.float32) if request.mask is None else request.mask
            for request in self.requests
        ]
        return latent_masks(
            masks, self.trajectory_sbchw[0] if self.inverted else self.source_latents
        )

    @property
    def noised_source(self) -> "Tensor":
        """The sources' latents at the level before the first walked step."""
        return self.source.at(self.steps[0].alpha_bar)

    @cached_property
    def controls(self) -> "tuple[Tensor, ...]":
        """The rows' pictures b3HW for each ControlNet, 0 to 1; none where the rows have none."""
        from overpaint.operators.diffusion.latents import to_tensor

        names = [control.condition for control in self.model.controls]
        if not all(name in request.values for name in names for request in self.requests):
            return ()
        pictures = ([request.values[name] for request in self.requests] for name in names)
        device = self.model.device
        return tuple(to_tensor(own, device).add(1.0).div(2.0) for own in pictures)

    @cached_property
    def image_embeds(self) -> "Tensor | None":
        """Embeddings of the rows' first references for an IP-Adapter; None where they have none."""
        adapter = self.model.image_prompt
        references = [request.values.get(REFERENCES.name) for request in self.requests]
        if adapter is None or not all(references):
            return None
        self.model.spend(Cost(vision=len(references)))
        return adapter.embed([pictures[0] for pictures in references if pictures])

    def window(self, window: Window) -> range:
        """Returns the indices of the walked steps in a window."""
        return steps_in(window, self.walked)

    def prompts(self, prompts: Sequence[str]) -> "PromptEmbeds":
        """Embeds one prompt for each row."""
        from overpaint.operators.diffusion.prompts import embed

        return embed(self.model, prompts)._replace(
            controls_b3HW=self.controls, image_embeds=self.image_embeds
        )

    def negative_prompts(self, prompt: str) -> "PromptEmbeds":
        """Embeds a negative prompt for every row."""
        from overpaint.operators.diffusion.prompts import embed_negative

        # An IP-Adapter sees nothing here.
        negative = embed_negative(self.model, prompt, len(self.requests))
        return negative._replace(controls_b3HW=self.controls)

    def source_prompts(self) -> list[str]:
        """Returns the prompt under which each source was inverted."""
        return [path.prompt for path in self.inverted]

    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> "Tensor":
        """Encodes pictures of the frames' size to latents bchw."""
        from overpaint.operators.diffusion import latents

        return latents.encode(self.model, latents.to_tensor(pictures, self.model.device))

    def decode(self, latents_bchw: "Tensor") -> list[NDArray[np.float32]]:
        """Decodes latents to pictures, RGB float32 HWC."""
        from overpaint.operators.diffusion import latents

        return latents.decode(self.model, latents_bchw)

    def predict(
        self,
        latents_bchw: "Tensor",
        step: Step,
        prompts: "Mapping[str, PromptEmbeds]",
        attention: AttentionEdits = NO_EDITS,
    ) -> "dict[str, Tensor]":
        """Runs the UNet once for all rows under each of some prompts; returns predictions bchw."""
        from overpaint.operators.diffusion.sampling import Branch, predict

        branches = {name: Branch(prompts=embeds) for name, embeds in prompts.items()}
        return predict(self.model, latents_bchw, step, branches, attention)

    def predictor(
        self,
        prompts: "Mapping[str, PromptEmbeds]",
        guidance: Guidance,
        attention: AttentionEdits = NO_EDITS,
    ) -> "Predictor":
        """Returns the guided prediction under some prompts, as a function of latents and step."""

        def predict(latents_bchw: "Tensor", step: Step) -> "Tensor":
            predictions = self.predict(latents_bchw, step, prompts, attention)
            return guidance(
                StepState(step=step, latents_bchw=latents_bchw, predictions=predictions)
            )

        return predict

    def eps(self, latents_bchw: "Tensor", step: Step, prediction_bchw: "Tensor") -> "Tensor":
        """Returns the noise bchw that a prediction means at its latents."""
        from overpaint.operators.diffusion.sampling import to_x0_and_eps

        kind = self.schedule.prediction_type
        return to_x0_and_eps(prediction_bchw, latents_bchw, step.alpha_bar, kind)[1]

    def prediction(self, latents_bchw: "Tensor", step: Step, eps_bchw: "Tensor") -> "Tensor":
        """Returns the prediction bchw that means some noise at the latents."""
        from overpaint.operators.diffusion.sampling import to_prediction

        kind = self.schedule.prediction_type
        return to_prediction(eps_bchw, latents_bchw, step.alpha_bar, kind)

    def advance(
        self, latents_bchw: "Tensor", step: Step, prediction_bchw: "Tensor", sigma: float = 0.0
    ) -> "Tensor":
        """Returns the latents, or their mean, after a DDIM step with a prediction."""
        from overpaint.operators.diffusion.sampling import ddim_step, to_x0_and_eps

        kind = self.schedule.prediction_type
        x0, eps = to_x0_and_eps(prediction_bchw, latents_bchw, step.alpha_bar, kind)
        return ddim_step(x0, eps, step, sigma)

    def run(self, branches: Mapping[str, Window], sampling: Sampling) -> "Tensor":
        """Denoises the batch; returns clean latents bchw.

        Args:
            branches: as the method declares them.
            sampling: start and controls.
        """
        from overpaint.operators.diffusion.sampling import Controls, denoise

        running = {name: self.window(window) for name, window in branches.items()}
        controls = Controls(
            guidance=sampling.guidance or (lambda state: state.predictions["text"]),
            hooks=sampling.hooks,
            attention=sampling.attention,
            noise=sampling.noise,
            energy=sampling.energy,
        )
        sampler = sampling.sampler or denoise
        return sampler(
            self.model,
            sampling.start_bchw,
            self.schedule,
            self.steps,
            {name: self._branch(name, steps, sampling) for name, steps in running.items() if steps},
            controls,
        )

    def _branch(self, name: str, steps: range, sampling: Sampling) -> "Branch":
        from overpaint.operators.diffusion.sampling import Branch

        inputs = sampling.branches.get(name, BranchInputs())
        prompts = inputs.prompts or self._usual_prompts(name, sampling)
        return Branch(
            prompts=prompts,
            latents=inputs.latents,
            channels_bchw=inputs.channels_bchw,
            task_label=inputs.task_label,
            steps=None if steps == self.walked else steps,
        )

    def _usual_prompts(self, name: str, sampling: Sampling) -> "PromptEmbeds":
        match name:
            case "text":
                return self.prompts([request.prompt for request in self.requests])
            case "negative":
                return self.negative_prompts(sampling.negative_prompt)
            case "source":
                return self.prompts(self.source_prompts())
            case _:
                raise ValueError(f"branch {name!r}: its prompts are not given")
