"""Raw weights as the trainer of all checkpoints leaves them, grown from the shipped ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from overpaint.jobs.training.grown import grow, inpainting_channels, with_input_channels
from overpaint.jobs.training.text_to_image import build_unet
from overpaint.operators.models.weights import Checkpoint
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel

SHIPPED = Path(Checkpoint(name="papercut").path).parent
SCALE = AutoencoderKL.from_pretrained(SHIPPED / "vae").config["scaling_factor"]
RUN = {"steps": 5, "minutes": 1.5, "batch_size": 8, "learning_rate": 1e-3, "examples": 64}
LATENT = ("vae", "text_to_image", "instruction", "inpainting")
NUM_LABELS = 16


def save_raw(path: Path, **modules: nn.Module) -> None:
    """Writes weights as the trainer does: fp16, tied ones once, without buffers."""
    named = nn.ModuleDict(modules).named_parameters()
    save_file({name: p.detach().half().contiguous() for name, p in named}, path)


def grown_unet(name: str, channels: int) -> UNet2DConditionModel:
    weights = UNet2DConditionModel.from_pretrained(SHIPPED / name / "unet").state_dict()
    if channels == 9:
        first = inpainting_channels(weights["conv_in.weight"], SCALE)
        weights = with_input_channels(weights, first)
    return grow(build_unet(in_channels=channels), weights)


def write_latent(folder: Path, name: str, base: str, channels: int) -> None:
    modules: dict[str, nn.Module] = {
        "unet": grown_unet(base, channels),
        "text_encoder": CLIPTextModel.from_pretrained(SHIPPED / base / "text_encoder"),
    }
    if channels > 4:
        modules["task_labels"] = nn.Embedding(NUM_LABELS, 256, padding_idx=0)
    save_raw(folder / f"{name}.safetensors", **modules)


def write_facts(folder: Path, **changes: Any) -> None:
    names = [path.stem for path in folder.glob("*.safetensors")]
    checkpoints = {name: {**RUN, "note": "grown"} for name in names}
    facts = {"scaling_factor": SCALE, "device": "NVIDIA H100", "checkpoints": checkpoints}
    (folder / "facts.json").write_text(json.dumps(facts | changes))


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
