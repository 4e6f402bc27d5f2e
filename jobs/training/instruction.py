"""Checkpoint `instruction`: a StableDiffusionInstructPix2PixPipeline that follows instructions.

As in InstructPix2Pix (arXiv 2211.09800) the UNet is text_to_image's with 4 more input channels,
initialised with zeros, for the unscaled latents of the source; instruction, source or both are
dropped at random, for classifier-free guidance on each. Sources and true targets are encoded once.

The model predicts v on a noise schedule of zero terminal SNR (arXiv 2305.08891): at pure noise, v
is the negative target, which the model predicts from the source. With a noise prediction the target
would be a small difference of large numbers there, and unedited regions would drift in colour.

Shapes: n edits, p phrasings of an edit, 4 latent channels, h and w latent pixels, t tokens, d text
features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from overpaint.jobs.training import losses, pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.latent_pipelines import build_pipeline, save_pipeline
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.jobs.training.text_to_image import build_scheduler
from overpaint.jobs.training.word_ids import word_ids_of
from overpaint.pipeline.edit_types import EditType
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

GUIDANCE_SCALE = 2.0
IMAGE_GUIDANCE_SCALE = 1.5
NUM_INFERENCE_STEPS = 20
# Relative sampling weight of the edit types that are learned slowly; 1 for the others.
TYPE_WEIGHTS: dict[EditType, float] = {
    "move": 4.0,
    "texture": 4.0,
    "add": 2.0,
    "remove": 2.0,
    "background": 2.0,
    "style": 2.0,
}
_NUM_SHOWN = 24
_NUM_MEASURED = 36
_NUM_MEASURED_STEPS = 10


class EditSampling(NamedTuple):
    """Sampling settings of an edit.

    Attributes:
        guidance_scale: classifier-free guidance scale of the instruction.
        image_guidance_scale: classifier-free guidance scale of the source.
        num_inference_steps: number of sampling steps.
    """

    guidance_scale: float = GUIDANCE_SCALE
    image_guidance_scale: float = IMAGE_GUIDANCE_SCALE
    num_inference_steps: int = NUM_INFERENCE_STEPS


def widen_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Returns the UNet with twice as many input channels, the added ones with zero weights."""
    settings: Any = dict(unet.config)
    wide: Any = UNet2DConditionModel.from_config(settings | {"in_channels": 8})
    weights = unet.state_dict()
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    wide.load_state_dict(weights)
    return wide


def build_edit_scheduler() -> DDIMScheduler:
    """Builds text_to_image's scheduler for v-prediction, with zero terminal SNR."""
    settings: Any = build_scheduler().config
    scheduler: Any = DDIMScheduler.from_config(
        settings,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    return scheduler


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionTrainingTask:
    """Training of the instruction editor: UNet and text encoder, with a frozen vae.

    Attributes:
        unet: UNet to train.
        text_encoder: text encoder to train.
        tokenizer: tokenizer of the instructions.
        vae: frozen autoencoder.
        scheduler: noise schedule.
        train: training edits with the latents `source` and `target` (float16, scaled).
        test: test edits with the images `source` and `target`, and their phrasings.
        tokens_npt: token ids of some phrasings of each instruction.
        empty_t: token ids of the empty instruction.
        sampling_weights_n: probability of each training edit.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    vae: Any
    scheduler: Any
    train: Cache
    test: Cache
    tokens_npt: Tensor
    empty_t: Tensor
    sampling_weights_n: NDArray[np.float64]
    config: TrainingConfig
    name: str = "instruction"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """UNet and text encoder."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the weighted MSE of the predicted v on a batch of edits."""
        batch = context.sample_batch(
            self.train, self.config.batch_size, weights=self.sampling_weights_n
        )
        phrasings = context.rng.integers(self.tokens_npt.shape[1], size=len(batch.indices))
        edits = losses.EditBatch(
            sources=batch.floats("source"),
            targets=batch.floats("target"),
            tokens=self.tokens_npt[batch.indices, phrasings].long().to(context.device),
        )
        empty_t = self.empty_t.to(context.device)
        scale = float(self.vae.config.scaling_factor)
        return losses.instruction_loss(self.unet, self.text_encoder, edits, empty_t, scale)

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline, the vae included."""
        save_pipeline(self.pipeline(), folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the median gain and the success rate of a few test edits, of few steps each."""
        edited = self._edit(range(min(_NUM_MEASURED, len(self.test))), _NUM_MEASURED_STEPS)
        gains = gain(edited, self.test.arrays["source"], self.test.arrays["target"])
        return {"gain": float(np.median(gains)), "success": float((gains >= 0.5).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test sources, below each the edited image, and below that the true target."""
        rows: list[NDArray[np.uint8]] = []
        for start in (0, _NUM_SHOWN // 2):
            indices = range(start, min(start + _NUM_SHOWN // 2, len(self.test)))
            shown = slice(indices.start, indices.stop)
            sources, targets = (self.test.arrays[name][shown] for name in ("source", "target"))
            if indices:
                rows += [sources, self._edit(indices, _NUM_MEASURED_STEPS), targets]
        return pictures.image_grid(rows)

    def _edit(self, indices: range, num_steps: int) -> NDArray[np.uint8]:
        instructions = [self.test.texts[i]["phrasings"][0] for i in indices]
        sources = self.test.arrays["source"][indices.start : indices.stop]
        sampling = EditSampling(num_inference_steps=num_steps)
        return edit_images(self.pipeline(), sources, instructions, sampling)

    def pipeline(self) -> StableDiffusionInstructPix2PixPipeline:
        """Builds the pipeline around the modules in training."""
        return build_pipeline(
            StableDiffusionInstructPix2PixPipeline,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
        )


@torch.no_grad()
def edit_images(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    sources: NDArray[np.uint8],
    instructions: Sequence[str],
    sampling: EditSampling,
    *,
    batch_size: int = 12,
) -> NDArray[np.uint8]:
    """Edits images, RGB uint8 NHWC; image i starts from the noise of seed i."""
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(instructions), batch_size):
        batch = list(instructions[start : start + batch_size])
        output: Any = pipeline(
            batch,
            image=np.asarray(sources[start : start + batch_size], np.float32) / 255.0,
            guidance_scale=sampling.guidance_scale,
            image_guidance_scale=sampling.image_guidance_scale,
            num_inference_steps=sampling.num_inference_steps,
            generator=[torch.Generator().manual_seed(start + i) for i in range(len(batch))],
            output_type="np",
        )
        images.append(np.round(np.asarray(output[0]) * 255.0).astype(np.uint8))
    return np.concatenate(images)


def gain(
    edited: NDArray[np.uint8], sources: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Returns 1 - MSE(edited, target) / MSE(source, target) of each edit; RGB uint8 NHWC."""

    def mse(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        true = targets[: len(edited)].astype(np.float64)
        return ((images[: len(edited)] - true) ** 2).mean(axis=(1, 2, 3))

    return 1.0 - mse(edited) / mse(sources)


def sampling_weights(cache: Cache) -> NDArray[np.float64]:
    """Returns the sampling probability of each edit: higher for types that are learned slowly."""
    weights = np.array([TYPE_WEIGHTS.get(entry["edit_type"], 1.0) for entry in cache.texts])
    return weights / weights.sum()


def phrasing_tokens(cache: Cache, tokenizer: CLIPTokenizer, *, num_phrasings: int = 6) -> Tensor:
    """Tokenizes `num_phrasings` phrasings an edit, int16 NPT; shorter lists are repeated."""
    ids = word_ids_of(tokenizer)
    tables = [ids.clip_table(entry["phrasings"], num_phrasings) for entry in cache.texts]
    return torch.from_numpy(np.stack(tables))
