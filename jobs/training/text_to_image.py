"""The `text_to_image` checkpoint: a StableDiffusionPipeline that draws what a caption says.

The scenes are encoded once by the vae checkpoint, so a step sees latents only. The loss has
min-SNR weights, which teach shapes and colours early but starve the steps of little noise, where
edges are made; the last part of a run drops them.

Shapes: n images, 4 latent channels, y and x latent pixels, t tokens, d text features.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache, Example
from overpaint.jobs.training.clip import CaptionTokens
from overpaint.jobs.training.latent_pipelines import build_pipeline, save_pipeline
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.vae import encode
from overpaint.jobs.training.vocabulary import token_table
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PROMPT_DROPOUT = 0.1
DETAILED_CAPTION_SHARE = 0.7
_SHARP_PHASE = 0.85
_SNR_CAP = 5.0
_NUM_SHOWN = 24


def build_unet(
    text_width: int = 128, channels: tuple[int, ...] = (64, 128), heads: int = 4
) -> UNet2DConditionModel:
    """UNet on 16 x 16 latents, cross-attention at the coarsest level only, one layer a block."""
    plain = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
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
    """Text transformer of the pipeline, trained along with its UNet."""
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
    """Stable Diffusion's noise schedule, for DDIM and its inversion."""
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
    """The text-to-image pipeline in training: UNet and text encoder together, the vae at rest.

    `train` holds `latent` (float16, scaled) and captions, `test` holds captions and images.
    """

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    vae: Any
    scheduler: Any
    train: Cache
    test: Cache
    captions: CaptionTokens
    config: TrainingConfig
    name: str = "text_to_image"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """UNet and text encoder."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def loss(self, context: StepContext) -> Tensor:
        """Weighted error of the predicted noise on a batch of latents."""
        picks = np.sort(context.rng.integers(len(self.train), size=self.config.batch_size))
        latents = torch.from_numpy(self.train.arrays["latent"][picks]).to(context.device).float()
        tokens = self.captions.pick(picks, context.rng, detailed_share=DETAILED_CAPTION_SHARE)
        empty = torch.from_numpy(context.rng.random(len(picks)) < PROMPT_DROPOUT)
        tokens = torch.where(empty[:, None], token_table(self.tokenizer, [""]), tokens)
        text_ntd = self.text_encoder(tokens.to(context.device))[0]
        noise, times, noisy = add_noise(latents, self.scheduler, context.generator)
        made = self.unet(noisy, times, encoder_hidden_states=text_ntd).sample.float()
        weights = _noise_weights(self.scheduler, times, sharp=context.progress >= _SHARP_PHASE)
        error = functional.mse_loss(made, noise, reduction="none").mean(dim=(1, 2, 3))
        return (weights * error).mean()

    def export(self, folder: Path) -> None:
        """Write the whole pipeline, the vae included."""
        save_pipeline(self.pipeline(), folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Nothing: `overpaint bench checkpoints` measures attributes, which takes minutes."""
        return {}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Drawings of unseen captions at guidance 4, and below each the true scene."""
        entries = self.test.texts[:_NUM_SHOWN]
        made = generate(self.pipeline(), [entry["captions"][0] for entry in entries])
        true = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        half = _NUM_SHOWN // 2
        return pictures.image_grid([made[:half], true[:half], made[half:], true[half:]])

    def pipeline(self) -> StableDiffusionPipeline:
        """The pipeline around the modules in training."""
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
    """Images, RGB uint8 NHWC, of prompts; image i starts from the noise of seed i."""
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(prompts), batch_size):
        part = list(prompts[start : start + batch_size])
        seeds = range(start, start + len(part))
        made = pipeline(
            part,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        parts.append(np.round(np.asarray(made[0]) * 255.0).astype(np.uint8))
    return np.concatenate(parts)


def add_noise(
    latents: Tensor, scheduler: Any, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise N4YX, times N and noisy latents N4YX for latents N4YX."""
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    last = int(scheduler.config.num_train_timesteps)
    times = torch.randint(0, last, (len(latents),), generator=generator, device=latents.device)
    return noise, times, scheduler.add_noise(latents, noise, times)


def _noise_weights(scheduler: Any, times: Tensor, *, sharp: bool) -> Tensor:
    """Weight of each example's error: min-SNR with a cap of 5, or 1 in the sharp phase."""
    if sharp:
        return torch.ones(len(times), device=times.device)
    kept = scheduler.alphas_cumprod.to(times.device)[times]
    snr = kept / (1.0 - kept)
    return snr.clamp(max=_SNR_CAP) / snr


def latent_examples(scenes: Cache, vae: Any, device: torch.device) -> Callable[[int], Example]:
    """From a scene's index to its `latent` (float16) and texts; encodes 64 scenes at a time."""

    @lru_cache(maxsize=1)
    @torch.no_grad()
    def encoded(block: int) -> NDArray[np.float16]:
        images = scenes.arrays["image"][block * 64 : (block + 1) * 64]
        return encode(vae, pictures.to_tensor(images, device)).half().cpu().numpy()

    def draw(index: int) -> Example:
        return Example({"latent": encoded(index // 64)[index % 64]}, scenes.texts[index])

    return draw


def encoder_digest(vae: Any) -> str:
    """Short hash of what makes a vae's latents: its encoder; decoders may differ."""
    hasher = hashlib.sha256()
    for part in (vae.encoder, vae.quant_conv):
        for name, weights in sorted(part.state_dict().items()):
            hasher.update(name.encode() + weights.cpu().numpy().tobytes())
    return hasher.hexdigest()[:8]
