"""Floating-point operations of one network evaluation, counted on a checkpoint's configurations.

Networks are built without weights (on PyTorch's meta device) and called once, while PyTorch's
counter adds up two operations for each multiplication and addition, attention included. Backward
passes count as two forward ones. A transformer editor's network is not counted.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from overpaint.operators.models.weights import Checkpoint, read_index

_TOKENS = 77
"""Length of a prompt as CLIP's text encoders see it."""
_BACKWARD = 2.0
_TIME_IDS = 6
"""Numbers of sizes and crops that the UNet of SDXL is given."""

Flops = Mapping[str, float]
"""Operations of one evaluation, by its kind as `Cost` names it."""


def flops_of(checkpoint: Checkpoint) -> Flops:
    """Counts the operations of one evaluation of each kind, at the checkpoint's own size.

    Args:
        checkpoint: folder of a diffusers pipeline of a UNet, or of a CLIP model.

    Returns:
        Operations by kind; kinds whose network is not counted, or not here, are absent.
    """
    folder = _folder(checkpoint)
    return {} if folder is None else _counted(folder)


def _folder(checkpoint: Checkpoint) -> Path | None:
    """Returns the folder of a checkpoint, also one that the hub's cache holds."""
    if checkpoint.is_on_store:
        return None
    if not checkpoint.is_on_hub:
        return Path(checkpoint.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        revision = checkpoint.revision or "main"
        return Path(snapshot_download(checkpoint.name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


@lru_cache(maxsize=32)
def _counted(folder: Path) -> Flops:
    index = read_index(folder)
    if not index:
        config = _config(folder)
        return _of_clip(config) if config.get("model_type") == "clip" else {}
    found = dict[str, float]()
    if _is(index, "unet", "UNet2DConditionModel"):
        found["forward"] = _of_unet(_config(folder / "unet"))
        found["backward"] = _BACKWARD * found["forward"]
    if _is(index, "vae", "AutoencoderKL"):
        side = int(_config(folder / "unet").get("sample_size") or 64) if "forward" in found else 64
        found |= _of_vae(_config(folder / "vae"), side)
    texts = [name for name in ("text_encoder", "text_encoder_2") if index.get(name, [None])[0]]
    if texts and all(str(index[name][1]).startswith("CLIPTextModel") for name in texts):
        found["text"] = sum(_of_text(_config(folder / name)) for name in texts)
        found["text_backward"] = _BACKWARD * found["text"]
    return found


def _is(index: Mapping[str, Any], part: str, kind: str) -> bool:
    return index.get(part, [None, None])[1] == kind


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _of_unet(config: dict[str, Any]) -> float:
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    def call() -> None:
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(config)
            side, width = unet.config.sample_size, unet.config.cross_attention_dim
            options: dict[str, Any] = {}
            if unet.config.addition_embed_type == "text_time":
                times = _TIME_IDS * unet.config.addition_time_embed_dim
                pooled = unet.config.projection_class_embeddings_input_dim - times
                given = {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}
                options["added_cond_kwargs"] = given
            sample = torch.zeros(1, unet.config.in_channels, side, side)
            unet(sample, torch.zeros(1), torch.zeros(1, _TOKENS, width), **options)

    return _count(call)


def _of_vae(config: dict[str, Any], latent_side: int) -> Flops:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with torch.device("meta"):
        vae: Any = AutoencoderKL.from_config(config)
        side = latent_side * 2 ** (len(vae.config.block_out_channels) - 1)
        pixels = torch.zeros(1, vae.config.in_channels, side, side)
        latents = torch.zeros(1, vae.config.latent_channels, latent_side, latent_side)
    decode = _count(lambda: vae.decode(latents))
    return {
        "vae_encode": _count(lambda: vae.encode(pixels)),
        "vae_decode": decode,
        "vae_backward": _BACKWARD * decode,
    }


def _of_text(config: dict[str, Any]) -> float:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        encoder = CLIPTextModel(CLIPTextConfig(**config))
        tokens = torch.zeros(
            1, min(_TOKENS, encoder.config.max_position_embeddings), dtype=torch.long
        )
    return _count(lambda: encoder(input_ids=tokens))


def _of_clip(config: dict[str, Any]) -> Flops:
    """Counts an embedding of CLIP: as many are of pictures as of texts."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        clip: Any = CLIPModel(CLIPConfig(**config))
        side = clip.config.vision_config.image_size
        pixels = torch.zeros(1, 3, side, side)
        length = min(_TOKENS, clip.config.text_config.max_position_embeddings)
        tokens = torch.zeros(1, length, dtype=torch.long)
    both = _count(lambda: (clip.vision_model(pixels), clip.text_model(input_ids=tokens)))
    return {"clip": both / 2, "clip_backward": _BACKWARD * both / 2}


def _count(call: Callable[[], Any]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        call()
    return float(counter.get_total_flops())
