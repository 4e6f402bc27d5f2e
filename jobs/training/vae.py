"""The `vae` checkpoint: an AutoencoderKL that makes 64 px scenes 16 x 16 latents and back.

Shapes: n images, 3 RGB channels, 4 latent channels, h and w pixels, y and x latent pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.saving import save_fp16
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

_KL_WEIGHT = 1e-4
_NUM_SHOWN = 12


def build_vae(channels: tuple[int, ...] = (32, 64, 64)) -> AutoencoderKL:
    """AutoencoderKL, factor 4, 4 latent channels; no attention, which drawings do not need."""
    levels = len(channels)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": channels,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "sample_size": 64,
    }
    return AutoencoderKL(**settings)


def encode(vae: Any, images_n3hw: Tensor) -> Tensor:
    """Mean latents NCYX of images in -1 to 1, scaled as a diffusion model sees them."""
    return vae.encode(images_n3hw).latent_dist.mode() * vae.config.scaling_factor


def decode(vae: Any, latents_n4yx: Tensor) -> Tensor:
    """Images NCHW, about -1 to 1, of scaled latents."""
    return vae.decode(latents_n4yx / vae.config.scaling_factor).sample


@torch.no_grad()
def reconstruct(vae: Any, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Round trip of RGB uint8 NHWC images, 64 at a time."""
    device = next(vae.parameters()).device
    parts = [
        pictures.to_uint8(decode(vae, encode(vae, pictures.to_tensor(part, device))))
        for part in np.array_split(images, max(1, len(images) // 64))
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeTrainingTask:
    """The vae in training: L1, squared error and edges, with a slight pull to a unit Gaussian.

    The pull leaves noise in the latents, so that the decoder learns to ignore errors of the size
    that a diffusion model makes.
    """

    vae: Any
    train: Cache
    test: Cache
    config: TrainingConfig
    name: str = "vae"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole autoencoder."""
        return {"vae": self.vae}

    def loss(self, context: StepContext) -> Tensor:
        """Reconstruction of a batch of drawn scenes, half of them mirrored."""
        picks = np.sort(context.rng.integers(len(self.train), size=self.config.batch_size))
        images_n3hw = pictures.to_tensor(self.train.arrays["image"][picks], context.device)
        if context.step % 2:
            images_n3hw = images_n3hw.flip(3)
        posterior = self.vae.encode(images_n3hw).latent_dist
        latents = posterior.sample(context.generator)
        decoded_n3hw = self.vae.decode(latents).sample.float()
        kl = posterior.kl().float().mean() / latents[0].numel()
        return _reconstruction(decoded_n3hw, images_n3hw) + _KL_WEIGHT * kl

    def export(self, folder: Path) -> None:
        """Write the autoencoder, its scaling factor measured on drawn scenes.

        Where the encoder is at rest the factor stays: the latents are those of other checkpoints.
        """
        if any(parameter.requires_grad for parameter in self.vae.encoder.parameters()):
            self._measure_scale()
        save_fp16(self.vae, folder)

    def _measure_scale(self) -> None:
        device = next(self.vae.parameters()).device
        images = pictures.to_tensor(self.train.arrays["image"][:256], device)
        with torch.no_grad():
            std = float(self.vae.encode(images).latent_dist.sample().std())
        self.vae.register_to_config(scaling_factor=round(1.0 / std, 4))

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Mean PSNR of unseen scenes."""
        images = self.test.arrays["image"][:128]
        return {"psnr_db": float(pictures.psnr(images, reconstruct(self.vae, images)).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen scenes, and below each its reconstruction."""
        images = np.asarray(self.test.arrays["image"][: 2 * _NUM_SHOWN])
        made = reconstruct(self.vae, images)
        halves = [(images[i : i + _NUM_SHOWN], made[i : i + _NUM_SHOWN]) for i in (0, _NUM_SHOWN)]
        return pictures.image_grid([row for pair in halves for row in pair])


def _reconstruction(decoded_n3hw: Tensor, images_n3hw: Tensor) -> Tensor:
    error = decoded_n3hw - images_n3hw
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 4.0 * functional.mse_loss(decoded_n3hw, images_n3hw) + 0.5 * edges
