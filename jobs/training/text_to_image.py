"""Checkpoint `text_to_image`: a StableDiffusionPipeline that draws a captioned scene.

The vae checkpoint encodes each scene once, so a step sees latents only. The loss has min-SNR
weights (arXiv 2303.09556), which teach shapes and colours early but give little weight to the
timesteps of low noise, where edges form; the last part of a run drops the weights.

Shapes: n images, 4 latent channels, h and w latent pixels, t tokens, d text features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from overpaint.jobs.training import losses, pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.clip import CaptionTokens
from overpaint.jobs.training.latent_pipelines import build_pipeline, save_pipeline
from overpaint.jobs.training.task import StepContext, TrainingConfig
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

DETAILED_CAPTION_SHARE = 0.7
_NUM_SHOWN = 24


def build_unet(
    text_width: int = 128,
    channels: tuple[int, ...] = (64, 128),
    heads: int = 4,
    *,
    in_channels: int = 4,
) -> UNet2DConditionModel:
    """Builds a UNet for 16 x 16 latents with self- and cross-attention at every level."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=text_width,
        # diffusers reads this as the number of heads.
        attention_head_dim=heads,
        norm_num_groups=16,
    )


def build_text_encoder(
    tokenizer: CLIPTokenizer, *, width: int = 128, layers: int = 2
) -> CLIPTextModel:
    """Builds the text encoder of the pipeline, which is trained together with its UNet."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextModel(CLIPTextConfig(**settings))


def build_scheduler() -> DDIMScheduler:
    """Builds a DDIM scheduler with Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextToImageTrainingTask:
    """Training of the text-to-image pipeline: UNet and text encoder, with a frozen vae.

    Attributes:
        unet: UNet to train.
        text_encoder: text encoder to train.
        tokenizer: tokenizer of the captions.
        vae: frozen autoencoder.
        scheduler: noise schedule.
        train: training scenes with `latent` (float16, scaled).
        test: test scenes with `image` and their captions.
        captions: captions of the training scenes.
        empty_t: token ids of the empty prompt.
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
    captions: CaptionTokens
    empty_t: Tensor
    config: TrainingConfig
    name: str = "text_to_image"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """UNet and text encoder."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the min-SNR-weighted MSE of the predicted noise on a batch of latents."""
        batch = context.sample_batch(self.train, self.config.batch_size)
        tokens_nt = self.captions.sample(
            batch.indices, context.rng, detailed_share=DETAILED_CAPTION_SHARE
        ).to(context.device)
        return losses.text_to_image_loss(
            self.unet,
            self.text_encoder,
            batch.floats("latent"),
            losses.drop_prompts(tokens_nt, self.empty_t.to(context.device)),
            torch.tensor(losses.plain_share(context.progress), device=context.device),
        )

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline, the vae included."""
        save_pipeline(self.pipeline(), folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns no metrics: measuring attributes takes minutes."""
        return {}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws images of test captions at guidance scale 4, and below each the true scene."""
        entries = self.test.texts[:_NUM_SHOWN]
        images = generate(self.pipeline(), [entry["captions"][0] for entry in entries])
        true = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        half = _NUM_SHOWN // 2
        return pictures.image_grid([images[:half], true[:half], images[half:], true[half:]])

    def pipeline(self) -> StableDiffusionPipeline:
        """Builds the pipeline around the modules in training."""
        return build_pipeline(
            StableDiffusionPipeline,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
        )


@torch.no_grad()
def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    guidance_scale: float = 4.0,
    num_inference_steps: int = 25,
    batch_size: int = 32,
) -> NDArray[np.uint8]:
    """Generates images, RGB uint8 NHWC, of prompts; image i starts from the noise of seed i."""
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        seeds = range(start, start + len(batch))
        output = pipeline(
            batch,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        images.append(np.round(np.asarray(output[0]) * 255.0).astype(np.uint8))
    return np.concatenate(images)
