"""Pictures to latents and back, a whole batch at a time.

Shapes: b rows, 3 RGB or c latent channels, h and w pixels, y and x latent pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.pipeline.images import Pixels
from torch import Tensor
from torch.nn import functional


def to_tensor(pictures: Sequence[Pixels], device: torch.device) -> Tensor:
    """RGB uint8 HWC pictures of one size as float32 b3hw, -1 to 1."""
    stacked = torch.from_numpy(np.stack(pictures)).to(device)
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


@torch.no_grad()
def encode(model: LatentModel, images_b3hw: Tensor) -> Tensor:
    """Latents, float32 bcyx, as the UNet sees them: the most likely ones, without noise."""
    model.make_room()
    latents: Tensor = model.vae.encode(images_b3hw.to(model.vae.dtype)).latent_dist.mode()
    shift = float(model.vae.config.get("shift_factor") or 0.0)
    return (latents.float() - shift) * float(model.vae.config.scaling_factor)


@torch.no_grad()
def decode(model: LatentModel, latents_bcyx: Tensor) -> list[NDArray[np.float32]]:
    """Pictures of latents: RGB float32 HWC, about 0-255, not clipped; NaN where the model fails."""
    shift = float(model.vae.config.get("shift_factor") or 0.0)
    latents = latents_bcyx / float(model.vae.config.scaling_factor) + shift
    model.make_room()
    images: Tensor = model.vae.decode(latents.to(model.vae.dtype)).sample
    return to_pictures(images)


def to_pictures(images_b3hw: Any) -> list[NDArray[np.float32]]:
    """Float b3hw, -1 to 1, as RGB float32 HWC, 0-255."""
    scaled = images_b3hw.float().add(1.0).mul(127.5)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())


def latent_masks(masks: Sequence[NDArray[np.float32]], like_bcyx: Tensor) -> Tensor:
    """Masks (float32 HW, 0-1) as b1yx: the share of each latent pixel that may change."""
    stacked = torch.from_numpy(np.stack(masks)).to(like_bcyx)[:, None]
    height, width = like_bcyx.shape[2:]
    return functional.adaptive_avg_pool2d(stacked, (height, width))


def draw_noise(generators: Sequence[torch.Generator], like_bcyx: Tensor) -> Tensor:
    """Unit noise, each row from its own generator, on the CPU so that every device has the same."""
    noise = [torch.randn(like_bcyx.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(like_bcyx)


def make_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a row."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
