"""Further input channels of inpainting UNets.

Shapes: b rows, h and w latent pixels; one channel of the mask and four of the masked source.
"""

from typing import TYPE_CHECKING

import numpy as np
from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


def inpainting_channels(batch: Batch) -> "Tensor":
    """Returns mask and masked source, b5hw, as StableDiffusionInpaintPipeline prepares them."""
    import torch
    from overpaint.operators.diffusion import latents

    masks = np.stack([np.zeros(1) if r.mask is None else r.mask for r in batch.requests])
    pictures = latents.to_tensor([r.picture for r in batch.requests], batch.model.device)
    kept = torch.from_numpy(masks < 0.5).to(pictures)[:, None]
    masked_source = latents.encode(batch.model, pictures * kept)
    return torch.cat([(batch.mask_b1hw >= 0.5).to(masked_source), masked_source], dim=1)
