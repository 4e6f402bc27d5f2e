"""Pictures to latents and back, a whole batch at a time, and noise.

Shapes: b rows, 3 RGB or c latent channels, H and W pixels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import Pixels
from torch import Tensor
from torch.nn import functional


def to_tensor(pictures: Sequence[Pixels], device: torch.device) -> Tensor:
    """Stacks RGB uint8 HWC pictures of one size to float32 b3HW, -1 to 1."""
    stacked = torch.from_numpy(np.stack(pictures)).to(device)
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


@torch.no_grad()
def encode(model: LatentModel, images_b3HW: Tensor) -> Tensor:  # noqa: N803  the shape's own letters
    """Encodes images to latents, float32 bchw, scaled for the UNet: the mode of the posterior."""
    model.make_room_for_vae()
    model.spend(Cost(vae_encode=len(images_b3HW)))
    latents: Tensor = model.vae.encode(images_b3HW.to(model.vae.dtype)).latent_dist.mode()
    shift = float(model.vae.config.get("shift_factor") or 0.0)
    return (latents.float() - shift) * model.scaling_factor


@torch.no_grad()
def decode(model: LatentModel, latents_bchw: Tensor) -> list[NDArray[np.float32]]:
    """Decodes latents to pictures: RGB float32 HWC, about 0-255, not clipped; NaN on overflow."""
    shift = float(model.vae.config.get("shift_factor") or 0.0)
    latents = latents_bchw / model.scaling_factor + shift
    model.make_room_for_vae()
    model.spend(Cost(vae_decode=len(latents)))
    return to_pictures(model.vae.decode(latents.to(model.vae.dtype)).sample)


def to_pictures(images_b3HW: Any) -> list[NDArray[np.float32]]:  # noqa: N803
    """Converts float b3HW, -1 to 1, to RGB float32 HWC, 0-255."""
    scaled = images_b3HW.float().add(1.0).mul(127.5)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())


def latent_masks(masks: Sequence[NDArray[np.float32]], like_bchw: Tensor) -> Tensor:
    """Averages masks (float32 HW, 0-1) over latent pixels, b1hw: the share that may change."""
    stacked = torch.from_numpy(np.stack(masks)).to(like_bchw)[:, None]
    height, width = like_bchw.shape[2:]
    return functional.adaptive_avg_pool2d(stacked, (height, width))


def draw_noise(generators: Sequence[torch.Generator], like_bchw: Tensor) -> Tensor:
    """Draws unit noise, each row from its own generator, on the CPU so that devices agree."""
    noise = [torch.randn(like_bchw.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(like_bchw)


def make_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Makes one generator for each row."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisedSource:
    """The sources' latents with one fixed noise for each row, at any noise level.

    Attributes:
        x0_bchw: latents of the sources.
        noise_bchw: unit noise.
    """

    x0_bchw: Tensor
    noise_bchw: Tensor

    def at(self, alpha_bar: float) -> Tensor:
        """Returns the latents at a noise level."""
        return alpha_bar**0.5 * self.x0_bchw + (1.0 - alpha_bar) ** 0.5 * self.noise_bchw
