"""PRedItOR (arXiv 2302.07979): a diffusion prior edits what the picture means, DDIM how it looks.

Conceptual edit: SDEdit among CLIP image embeddings, by the prior under the target prompt.
Structural edit: the source is inverted under its own embedding, and denoised under the edited one.
It needs a checkpoint with a prior: a Kandinsky 2.2, saved as KandinskyV22CombinedPipeline.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Framed, Method
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import Schedule, make_schedule, walked_steps
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prior_model import PriorModel
    from torch import Generator, Tensor


class PRedItOR(Method, Framed):
    """Edits the CLIP image embedding by a diffusion prior, and redraws the inverted source."""

    papers = ("2302.07979",)
    family = "F18"
    edit_types = ("replace", "style", "background")
    checkpoints = ("KandinskyV22CombinedPipeline",)
    papercut = None

    prior_strength: float = Field(default=0.3, gt=0, le=1)
    """Share of the prior's steps that the embedding goes towards noise and back; 0.3 in diffusers'
    Kandinsky pipelines."""
    num_prior_steps: int = Field(default=25, ge=2, le=1000)
    """Steps of the prior from noise to an embedding; 25 in diffusers."""
    prior_guidance_scale: float = Field(default=4.0, ge=0, le=100)
    """Scale of classifier-free guidance of the prior; 4 in diffusers."""
    guidance_scale: float = Field(default=4.0, ge=0, le=100)
    """Scale of classifier-free guidance of the decoder; 4 in diffusers."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the decoder's steps for which the source is inverted and denoised."""

    @property
    def num_prior_walked(self) -> int:
        """The number of the prior's steps that are walked."""
        return max(1, int(self.num_prior_steps * self.prior_strength))

    def load(self, checkpoint: Checkpoint) -> "PriorModel":
        """Loads the prior and the decoder."""
        from overpaint.operators.diffusion.prior_model import load_prior_model

        return load_prior_model(checkpoint)

    def free_memory(self, model: Any, *, exact: bool) -> str | None:
        """Slices the autoencoder, where bytes may change."""
        if exact or model.oom_fallbacks:
            return None
        model.vae.enable_slicing()
        model.oom_fallbacks = ("vae_slicing",)
        return "vae_slicing"

    def text_length(self, text: str, model: Any) -> TextLength | None:
        """Returns the length of a text for the prior's text encoder."""
        return model.text_length(text)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the prior, the inversion and the decoder."""
        num_walked = len(walked_steps(self.strength, num_inference_steps))
        prior = self.num_prior_walked * (1 if self.prior_guidance_scale == 1.0 else 2)
        decoder = num_walked * (2 if self.guidance_scale == 1.0 else 3)
        return Cost(forward=prior + decoder, vae_encode=1, vae_decode=1, text=1, clip=1)

    def edit(self, requests: Sequence[EditRequest], model: Any) -> list[NDArray[np.float32]]:
        """Edits the embeddings, inverts the sources, and denoises them under the edited ones."""
        from overpaint.operators.diffusion import latents

        pictures = [request.picture for request in requests]
        source = model.embed_images(pictures)
        edited = self.edited_embeddings(source, requests, model)
        schedule = make_schedule(model.parts.scheduler.config, self.num_inference_steps)
        clean = model.encode(latents.to_tensor(pictures, model.device))
        path = self._inverted(clean, schedule, source, model)
        masks = [
            np.ones(request.picture.shape[:2], np.float32) if request.mask is None else request.mask
            for request in requests
        ]
        mask = latents.latent_masks(masks, clean)
        return latents.to_pictures(
            model.decode(self._denoised(path, schedule, edited, mask, model))
        )

    def edited_embeddings(
        self, source_bd: "Tensor", requests: Sequence[EditRequest], model: Any
    ) -> "Tensor":
        """Returns the edited image embeddings bd: SDEdit by the prior, in its normalised space.

        diffusers' Emb2Emb pipeline adds noise to embeddings that are not normalised.
        """
        from overpaint.operators.diffusion import latents

        prior, scheduler = model.parts.prior_prior, model.parts.prior_scheduler
        generators = latents.make_generators([request.seed for request in requests])
        scheduler.set_timesteps(self.num_prior_steps, device=model.device)
        walked = scheduler.timesteps[-self.num_prior_walked :]
        normal = (source_bd - prior.clip_mean.float()) / prior.clip_std.float()
        noise = latents.draw_noise(generators, normal)
        noisy = scheduler.add_noise(normal, noise, walked[:1].repeat(len(normal)))
        prompts = [model.embed_prompt(request.prompt) for request in requests]
        for index, timestep in enumerate(walked):
            later = walked[index + 1] if index + 1 < len(walked) else None
            clean = self._prior_prediction(noisy, timestep, prompts, model)
            noisy = self._prior_step(scheduler, clean, noisy, (timestep, later), generators)
        return noisy * prior.clip_std.float() + prior.clip_mean.float()

    def _prior_prediction(
        self, noisy: "Tensor", timestep: "Tensor", prompts: list[Any], model: Any
    ) -> "Tensor":
        clean = model.prior(noisy, timestep, prompts)
        if self.prior_guidance_scale == 1.0:
            return clean
        empty = model.prior(noisy, timestep, [model.embed_prompt("")] * len(noisy))
        return empty + self.prior_guidance_scale * (clean - empty)

    def _prior_step(
        self,
        scheduler: Any,
        clean: "Tensor",
        noisy: "Tensor",
        timesteps: "tuple[Tensor, Tensor | None]",
        generators: "list[Generator]",
    ) -> "Tensor":
        timestep, later = timesteps
        output = scheduler.step(
            clean, timestep=timestep, sample=noisy, generator=generators, prev_timestep=later
        )
        # The last step ends at the prediction; its mean in diffusers differs by rounding alone.
        return output.pred_original_sample if later is None else output.prev_sample

    def _inverted(
        self, clean: "Tensor", schedule: Schedule, source: "Tensor", model: Any
    ) -> "list[Tensor]":
        """Returns the path from noise to the clean latents, over the walked steps."""
        path = [clean]
        walked = walked_steps(self.strength, len(schedule.steps))
        for step in reversed(schedule.steps[walked.start : walked.stop]):
            last = path[-1]
            noise = model.predict(last, step.timestep, source)
            x0 = (last - (1.0 - step.alpha_bar_next) ** 0.5 * noise) / step.alpha_bar_next**0.5
            path.append(step.alpha_bar**0.5 * x0 + (1.0 - step.alpha_bar) ** 0.5 * noise)
        return path[::-1]

    def _denoised(
        self,
        path: "list[Tensor]",
        schedule: Schedule,
        edited: "Tensor",
        mask: "Tensor",
        model: Any,
    ) -> "Tensor":
        """Returns clean latents under the edited embeddings; outside of the mask the path's."""
        latents = path[0]
        walked = walked_steps(self.strength, len(schedule.steps))
        nothing = model.no_image_1d.expand(len(edited), -1)
        for index, step in enumerate(schedule.steps[walked.start : walked.stop]):
            noise = model.predict(latents, step.timestep, edited)
            if self.guidance_scale != 1.0:
                empty = model.predict(latents, step.timestep, nothing)
                noise = empty + self.guidance_scale * (noise - empty)
            x0 = (latents - (1.0 - step.alpha_bar) ** 0.5 * noise) / step.alpha_bar**0.5
            latents = step.alpha_bar_next**0.5 * x0 + (1.0 - step.alpha_bar_next) ** 0.5 * noise
            latents = path[index + 1].lerp(latents, mask)
        return latents
