"""Checkpoint `vae`: an AutoencoderKL between 64 px scenes and 16 x 16 latents.

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
from overpaint.jobs.training import losses, pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from PIL import Image
from torch import Tensor, nn

_NUM_SHOWN = 12


def build_vae(
    channels: tuple[int, ...] = (32, 64, 64), *, layers_per_block: int = 2
) -> AutoencoderKL:
    """Builds an AutoencoderKL of factor 4 with 4 latent channels, without attention."""
    levels = len(channels)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": channels,
        "layers_per_block": layers_per_block,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "sample_size": 64,
    }
    return AutoencoderKL(**settings)


def encode(vae: Any, images_n3hw: Tensor) -> Tensor:
    """Encodes images, -1 to 1, to the mean latents N4YX, times the scaling factor."""
    return vae.encode(images_n3hw).latent_dist.mode() * vae.config.scaling_factor


def decode(vae: Any, latents_n4yx: Tensor) -> Tensor:
    """Decodes scaled latents to images N3HW, about -1 to 1."""
    return vae.decode(latents_n4yx / vae.config.scaling_factor).sample


@torch.no_grad()
def reconstruct(vae: Any, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encodes and decodes RGB uint8 NHWC images, 64 at a time."""
    device = next(vae.parameters()).device
    batches = [
        pictures.to_uint8(decode(vae, encode(vae, pictures.to_tensor(batch, device))))
        for batch in np.array_split(images, max(1, len(images) // 64))
    ]
    return np.concatenate(batches)


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeTrainingTask:
    """Training of the vae: L1, MSE and gradient loss, with a small KL term.

    The KL term keeps noise in the latents, so that the decoder learns to ignore errors of the size
    that a diffusion model makes.

    Attributes:
        vae: autoencoder to train.
        train: training scenes with `image`.
        test: test scenes with `image`.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    vae: Any
    train: Cache
    test: Cache
    config: TrainingConfig
    name: str = "vae"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole autoencoder."""
        return {"vae": self.vae}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the loss of reconstructing a batch of scenes, half of them mirrored."""
        batch = context.sample_batch(self.train, self.config.batch_size)
        return losses.vae_loss(self.vae, losses.mirrored(batch.images()))

    def export(self, folder: Path) -> None:
        """Writes the autoencoder, its scaling factor measured on training scenes.

        With a frozen encoder the factor stays, since other checkpoints are trained on its latents.
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
        """Returns the mean PSNR of test scenes."""
        images = self.test.arrays["image"][:128]
        return {"psnr_db": float(pictures.psnr(images, reconstruct(self.vae, images)).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test scenes, and below each its reconstruction."""
        images = np.asarray(self.test.arrays["image"][: 2 * _NUM_SHOWN])
        decoded = reconstruct(self.vae, images)
        starts = (0, _NUM_SHOWN)
        halves = [(images[i : i + _NUM_SHOWN], decoded[i : i + _NUM_SHOWN]) for i in starts]
        return pictures.image_grid([row for pair in halves for row in pair])
