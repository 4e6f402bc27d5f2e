"""IP-Adapter (arXiv 2308.06721): a UNet that also attends to what CLIP sees of a picture.

Shapes: b rows, d channels of an embedding, or p patches by d where the adapter reads patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from overpaint.operators.models.pretrained import device, torch_dtype
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.images import Pixels
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class ImagePrompt:
    """The image encoder of an IP-Adapter, whose other weights are in the UNet.

    Attributes:
        encoder: a CLIPVisionModelWithProjection.
        processor: makes pixels of pictures for it.
        reads_patches: whether the adapter reads patches, as those called "plus" do.
        nothing: embedding of no picture, of one row.
    """

    encoder: Any
    processor: Any
    reads_patches: bool
    nothing: Tensor

    @torch.no_grad()
    def embed(self, pictures: Sequence[Pixels]) -> Tensor:
        """Embeds a picture of each row, RGB uint8 HWC of any size."""
        images = [Image.fromarray(pixels) for pixels in pictures]
        pixels = self.processor(images, return_tensors="pt").pixel_values
        return _seen(self.encoder, pixels, reads_patches=self.reads_patches)


def load_image_prompt(checkpoint: Checkpoint, unet: Any) -> ImagePrompt | None:
    """Loads the IP-Adapter among the adapters of a checkpoint into its UNet; None without one.

    Raises:
        ValueError: there are several, or the file is none.
    """
    from diffusers.models.embeddings import ImageProjection
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    adapters = [a for a in checkpoint.adapters if a.kind == "ip_adapter" and a.scale != 0.0]
    if not adapters:
        return None
    if len(adapters) > 1:
        raise ValueError("adapters: more than one is an ip_adapter")
    (adapter,) = adapters
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, weights in load_file(adapter.fetched / adapter.file).items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = weights
    if not parts["image_proj"] or not parts["ip_adapter"] or len(parts) > 2:
        raise ValueError(f"adapters.file = {adapter.file!r} holds no IP-Adapter")
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [adapter.scale]
    encoder: Any = CLIPVisionModelWithProjection.from_pretrained(
        adapter.fetched / adapter.image_encoder,
        dtype=torch_dtype(checkpoint.dtype),
        use_safetensors=True,
        local_files_only=True,
    )
    encoder = encoder.to(device()).eval().requires_grad_(False)
    layer = unet.encoder_hid_proj.image_projection_layers[0]
    side_px = encoder.config.image_size
    reads_patches = not isinstance(layer, ImageProjection)
    nothing = _seen(encoder, torch.zeros(1, 3, side_px, side_px), reads_patches=reads_patches)
    return ImagePrompt(
        encoder=encoder,
        processor=CLIPImageProcessorPil(
            size={"shortest_edge": side_px}, crop_size={"height": side_px, "width": side_px}
        ),
        reads_patches=reads_patches,
        nothing=nothing if reads_patches else torch.zeros_like(nothing),
    )


@torch.no_grad()
def _seen(encoder: Any, pixels_b3hw: Tensor, *, reads_patches: bool) -> Tensor:
    pixels = pixels_b3hw.to(encoder.device, encoder.dtype)
    if reads_patches:
        return encoder(pixels, output_hidden_states=True).hidden_states[-2]
    return encoder(pixels).image_embeds
