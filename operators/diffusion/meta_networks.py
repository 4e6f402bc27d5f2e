"""Networks of a checkpoint on PyTorch's meta device: shapes without weights, called for one row.

A call costs no memory and no arithmetic, so that operations and memory can be counted anywhere.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from overpaint.operators.models.weights import read_index

NetworkCall = Callable[[], Any]
"""Call of a network for one row."""

_CLIP_TOKENS = 77
"""Length of a prompt as CLIP's text encoders see it."""
_PROMPT_TOKENS = 512
"""Length to which pipelines of transformers pad a prompt."""
_QWEN_TOKENS = 256
"""Length taken for prompts that are not padded, with a picture that the text encoder sees."""
_MEGAPIXEL_PX = 1024
"""Side of the pictures that transformers are trained on."""
_TIME_IDS = 6
"""Numbers of sizes and crops that the UNet of SDXL is given."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Pictures that a network sees in a call for one row.

    Attributes:
        side_px: side of a square of their area; 0 for the checkpoint's own.
        num_pictures: pictures that the sequence of a transformer holds: the one that is made, and
            the source or none.
        prompt_tokens: length of a prompt for a transformer; 0 for that to which it is padded, or
            256 where it is not.
    """

    side_px: int = 0
    num_pictures: int = 1
    prompt_tokens: int = 0


def network_calls(folder: Path, sight: Sight) -> dict[str, NetworkCall]:
    """Returns a call of each network of a checkpoint, by the kind of evaluation as in `Cost`.

    Args:
        folder: folder of a diffusers pipeline, or of a CLIP model.
        sight: pictures that it sees.
    """
    index = read_index(folder)
    if not index:
        config = read_config(folder)
        return {"clip": _clip(config)} if config.get("model_type") == "clip" else {}
    if _is(index, "transformer"):
        return _with_transformer(folder, index, sight)
    found = dict[str, NetworkCall]()
    is_unet = _is(index, "unet", "UNet2DConditionModel")
    unet = read_config(folder / "unet") if is_unet else {}
    side = sight.side_px // _pixels_a_latent(read_config(folder / "vae"))
    side = side or int(unet.get("sample_size") or 64)
    if is_unet:
        found["forward"] = _unet(unet, side)
    if _is(index, "vae", "AutoencoderKL"):
        found |= _vae(folder / "vae", latent_side=side)
    texts = [name for name in ("text_encoder", "text_encoder_2") if _is(index, name)]
    if texts and all(str(index[name][1]).startswith("CLIPTextModel") for name in texts):
        found["text"] = _together([_text(folder / name, index[name][1]) for name in texts])
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the `config.json` of a network's folder; empty where there is none."""
    file = folder / "config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _is(index: Mapping[str, Any], part: str, kind: str | None = None) -> bool:
    named = (index.get(part) or [None, None])[1]
    return named is not None and kind in (None, named)


def _with_transformer(
    folder: Path, index: Mapping[str, Any], sight: Sight
) -> dict[str, NetworkCall]:
    found = dict[str, NetworkCall]()
    scale = _pixels_a_latent(read_config(folder / "vae"))
    sight = replace(sight, side_px=sight.side_px or _MEGAPIXEL_PX)
    is_qwen = index["transformer"][1] == "QwenImageTransformer2DModel"
    num_tokens = sight.prompt_tokens or (_QWEN_TOKENS if is_qwen else _PROMPT_TOKENS)
    call = _transformer(folder / "transformer", index["transformer"][1], sight, scale, num_tokens)
    if call is not None:
        found["forward"] = call
    if str(index.get("vae", [None, ""])[1]).startswith("AutoencoderKL"):
        found |= _vae(folder / "vae", latent_side=sight.side_px // scale)
    texts = [name for name in ("text_encoder", "text_encoder_2") if _is(index, name)]
    if texts and call is not None:
        parts = [_text(folder / name, index[name][1], num_tokens) for name in texts]
        found["text"] = _together(parts)
    return found


def _pixels_a_latent(vae: Mapping[str, Any]) -> int:
    """Returns the pixels along a latent's side: a halving between any two levels."""
    levels = vae.get("block_out_channels") or vae.get("dim_mult") or [0] * 4
    return 2 ** (len(levels) - 1)


def _on_meta(kind: Any, config: Mapping[str, Any]) -> Any:
    import torch

    with torch.device("meta"):
        return kind.from_config(dict(config)).eval()


def _transformer(
    folder: Path, kind: str, sight: Sight, scale: int, num_tokens: int
) -> NetworkCall | None:
    """Returns a call of a transformer of packed latents; None where it is called otherwise."""
    import diffusers
    import torch

    config = read_config(folder)
    if "axes_dims_rope" not in config or "joint_attention_dim" not in config:
        return None
    network = _on_meta(getattr(diffusers, kind), config)
    side = sight.side_px // (2 * scale)
    length, axes = side * side * sight.num_pictures, len(config["axes_dims_rope"])
    with torch.device("meta"):
        given: dict[str, Any] = {
            "hidden_states": torch.zeros(1, length, network.config.in_channels),
            "encoder_hidden_states": torch.zeros(1, num_tokens, config["joint_attention_dim"]),
            "encoder_hidden_states_mask": torch.ones(1, num_tokens, dtype=torch.bool),
            "pooled_projections": torch.zeros(1, config.get("pooled_projection_dim") or 1),
            "timestep": torch.zeros(1),
            "img_ids": torch.zeros(length, axes),
            "txt_ids": torch.zeros(num_tokens, axes),
            "guidance": torch.zeros(1) if config.get("guidance_embeds") else None,
            "img_shapes": [[(1, side, side)] * sight.num_pictures],
        }
    known = signature(network.forward).parameters
    if any(p.default is Parameter.empty and name not in given for name, p in known.items()):
        return None
    given = {name: value for name, value in given.items() if name in known}
    return lambda: network(**given)


def _unet(config: dict[str, Any], side: int) -> NetworkCall:
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = _on_meta(UNet2DConditionModel, config)
    width = unet.config.cross_attention_dim
    options: dict[str, Any] = {}
    with torch.device("meta"):
        if unet.config.addition_embed_type == "text_time":
            times = _TIME_IDS * unet.config.addition_time_embed_dim
            pooled = unet.config.projection_class_embeddings_input_dim - times
            given = {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, _TIME_IDS)}
            options["added_cond_kwargs"] = given
        sample = torch.zeros(1, unet.config.in_channels, side, side)
        steps, prompt = torch.zeros(1), torch.zeros(1, _CLIP_TOKENS, width)
    return lambda: unet(sample, steps, prompt, **options)


def _vae(folder: Path, latent_side: int) -> dict[str, NetworkCall]:
    import diffusers
    import torch

    config = read_config(folder)
    vae = _on_meta(getattr(diffusers, config.get("_class_name", "AutoencoderKL")), config)
    side = latent_side * _pixels_a_latent(config)
    # A VAE of videos takes a picture as a video of one.
    frames = (1,) if "temperal_downsample" in config else ()
    channels = config.get("latent_channels") or config.get("z_dim") or 4
    with torch.device("meta"):
        pixels = torch.zeros(1, config.get("in_channels") or 3, *frames, side, side)
        latents = torch.zeros(1, channels, *frames, latent_side, latent_side)
    return {"vae_encode": lambda: vae.encode(pixels), "vae_decode": lambda: vae.decode(latents)}


def _text(folder: Path, kind: str, num_tokens: int = _CLIP_TOKENS) -> NetworkCall:
    import torch
    import transformers

    network: Any = getattr(transformers, kind)
    config = network.config_class(**read_config(folder))
    most = _CLIP_TOKENS if kind.startswith("CLIPText") else num_tokens
    with torch.device("meta"):
        encoder = network(config).eval()
        length = min(most, getattr(config, "max_position_embeddings", None) or most)
        tokens = torch.zeros(1, length, dtype=torch.long)
    return lambda: encoder(input_ids=tokens)


def _clip(config: dict[str, Any]) -> NetworkCall:
    """Returns a call of both towers: two embeddings of CLIP."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        clip: Any = CLIPModel(CLIPConfig(**config)).eval()
        side = clip.config.vision_config.image_size
        pixels = torch.zeros(1, 3, side, side)
        length = min(_CLIP_TOKENS, clip.config.text_config.max_position_embeddings)
        tokens = torch.zeros(1, length, dtype=torch.long)
    return lambda: (clip.vision_model(pixels), clip.text_model(input_ids=tokens))


def _together(calls: list[NetworkCall]) -> NetworkCall:
    return lambda: [call() for call in calls]
