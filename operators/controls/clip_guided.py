"""Diffusion guided by CLIP inside a mask: what Blended Diffusion and its kin share.

Each step's mean moves against the gradient of CLIP's distance, by the step's variance, and what is
outside the mask becomes the source with fresh noise.

Shapes: b rows, c latent channels, h and w latent pixels, H and W pixels.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overpaint.operators.controls.clip_loss import CLIPDistance, load_frozen
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import Editor, Framed, LatentMethod
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import Guidance, StepState
from overpaint.operators.diffusion.step_noise import ddim_sigma
from overpaint.operators.models import clip
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import PAPERCUT, Checkpoint
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Wanted:
    """Parts of the loss that are the same in all steps.

    Attributes:
        distance: distance to the texts.
        source_b3hw: pictures of the sources, -1 to 1.
        mask_b1hw: pixels that may change, 0 to 1.
    """

    distance: CLIPDistance
    source_b3hw: "Tensor"
    mask_b1hw: "Tensor"


class CLIPGuided(LatentMethod, Framed):
    """A method that follows CLIP's gradient inside a mask, and blends at each level."""

    needs = (MASK,)

    strength: float = Field(default=0.75, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise. 75 of 100 in the official code
    of Blended Diffusion, whose `skip_timesteps` is 25."""
    clip_guidance_lambda: float = Field(default=1000.0, ge=0, le=1e7)
    """Weight of CLIP's distance to the target prompt; 1000 in the official code."""
    aug_num: int = Field(default=8, ge=1, le=64)
    """Augmentations of which CLIP's distance is the mean; 8 in the official code."""
    range_lambda: float = Field(default=50.0, ge=0, le=1e7)
    """Weight of pixels out of range; 50 in the official code."""
    l2_sim_lambda: float = Field(default=0.0, ge=0, le=1e7)
    """Weight of the squared change outside the mask; 0 in the official code, or 10000 with its
    `background_preservation_loss`."""
    clip_checkpoint: str = PAPERCUT
    """A CLIP: "papercut", a local folder, or a hub id."""
    clip_revision: str | None = None
    """Commit, tag or branch of a hub id; null stands for `main`."""

    @abstractmethod
    def embedded(self, batch: Batch) -> "Mapping[str, PromptEmbeds]":
        """Returns the embedded prompts of each branch."""

    @property
    @abstractmethod
    def guide(self) -> Guidance:
        """The guidance that makes one prediction of those of all branches."""

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks the weights of the editor and of CLIP."""
        super().check_weights(checkpoint)
        self._clip.check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of CLIP."""
        return {"clip_checkpoint": self._clip.identity()}

    def load(self, checkpoint: Checkpoint) -> Editor:
        """Loads the editor's model and CLIP; both stay loaded."""
        load_frozen(self._clip)
        return super().load(checkpoint)

    def text_length(self, text: str, model: Any) -> TextLength | None:
        """Returns the length of a text for CLIP."""
        del model
        return clip.text_length(load_frozen(self._clip), text)

    @property
    def _clip(self) -> Checkpoint:
        return Checkpoint(
            name=self.clip_checkpoint,
            part=clip.PART,
            revision=self.clip_revision,
            field="clip_checkpoint",
        )

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts each step's passes both ways, through UNet, decoder and CLIP."""
        steps = len(self.walked(num_inference_steps))
        passes, images = steps * len(self.branches()), steps * self.aug_num
        return Cost(
            forward=passes,
            backward=passes,
            vae_encode=1,
            vae_decode=steps + 1,
            vae_backward=steps,
            clip=images + 1,
            clip_backward=images,
        )

    def edited(self, batch: Batch) -> "Tensor":
        """Walks the steps with CLIP's gradient; blends at the level after each."""
        from overpaint.operators.diffusion import latents

        wanted, prompts = self._wanted(batch), self.embedded(batch)
        current = batch.noise if self.strength == 1.0 else batch.noised_source
        for step in batch.steps:
            prediction, gradient = self._differentiated(batch, step, current, prompts, wanted)
            sigma = ddim_sigma(step, 1.0)
            mean = batch.advance(current, step, prediction, sigma) - sigma**2 * gradient
            drawn = [latents.draw_noise(batch.generators, current) for _ in range(2)]
            is_last = step is batch.steps[-1]
            current = mean if is_last else mean + sigma * drawn[0]
            outside = latents.NoisedSource(x0_bchw=batch.source_latents, noise_bchw=drawn[1])
            current = outside.at(step.alpha_bar_next).lerp(current, batch.mask_b1hw)
        return current

    def _wanted(self, batch: Batch) -> _Wanted:
        import numpy as np
        import torch
        from overpaint.operators.diffusion import latents

        loaded, device = load_frozen(self._clip), batch.model.device
        texts = clip.embed_texts(loaded, [request.prompt for request in batch.requests])
        batch.model.spend(Cost(clip=len(texts)))
        distance = CLIPDistance(
            clip=loaded,
            texts_bd=torch.from_numpy(np.stack(texts)).float().to(device),
            num_augmentations=self.aug_num,
        )
        masks = [np.zeros(1) if r.mask is None else r.mask for r in batch.requests]
        return _Wanted(
            distance=distance,
            source_b3hw=latents.to_tensor([r.picture for r in batch.requests], device),
            mask_b1hw=torch.from_numpy(np.stack(masks))[:, None].float().to(device),
        )

    def _differentiated(
        self,
        batch: Batch,
        step: Step,
        latents_bchw: "Tensor",
        prompts: "Mapping[str, PromptEmbeds]",
        wanted: _Wanted,
    ) -> "tuple[Tensor, Tensor]":
        """Returns the prediction of a step, and the gradient of each row's loss, both bchw."""
        import torch
        from overpaint.operators.diffusion.sampling import to_x0_and_eps

        with torch.enable_grad():
            current = latents_bchw.detach().requires_grad_()
            predictions = batch.predict(current, step, prompts)
            state = StepState(step=step, latents_bchw=current, predictions=predictions)
            prediction = self.guide(state)
            kind = batch.schedule.prediction_type
            x0, _ = to_x0_and_eps(prediction, current, step.alpha_bar, kind)
            # The noisier the level, the more of the picture is what the model makes of it.
            share = (1.0 - step.alpha_bar) ** 0.5
            loss = self._loss(batch, share * x0 + (1.0 - share) * current, wanted)
            (gradient,) = torch.autograd.grad(loss.sum(), current)
        count, images = len(current), len(current) * self.aug_num
        backward = count * len(prompts)
        batch.model.spend(Cost(backward=backward, vae_backward=count, clip_backward=images))
        return prediction.detach(), gradient

    def _loss(self, batch: Batch, latents_bchw: "Tensor", wanted: _Wanted) -> "Tensor":
        """Returns each row's loss b of the picture that latents decode to."""
        pictures = _decoded(batch, latents_bchw)
        inside = pictures * wanted.mask_b1hw
        distance = wanted.distance(inside, batch.generators)
        batch.model.spend(Cost(clip=len(pictures) * self.aug_num))
        loss = self.clip_guidance_lambda * distance
        beyond = (pictures - pictures.clamp(-1.0, 1.0)).square().mean(dim=(1, 2, 3))
        change = (pictures - wanted.source_b3hw) * (1.0 - wanted.mask_b1hw)
        change = change.square().mean(dim=(1, 2, 3))
        return loss + self.range_lambda * beyond + self.l2_sim_lambda * change


def _decoded(batch: Batch, latents_bchw: "Tensor") -> "Tensor":
    """Decodes latents to pictures b3HW, -1 to 1, through which gradients flow."""
    model = batch.model
    shift = float(model.vae.config.get("shift_factor") or 0.0)
    latents = latents_bchw / model.scaling_factor + shift
    model.spend(Cost(vae_decode=len(latents)))
    return model.vae.decode(latents.to(model.vae.dtype)).sample.float()
