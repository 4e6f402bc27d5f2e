"""What tests of imports share: raw weights, and a copy of the shipped checkpoints."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from overpaint.jobs.training.grown import grow
from overpaint.jobs.training.vae import build_vae
from raw_weights import SHIPPED, save_raw, write_facts, write_latent
from transformers import AutoModelForImageTextToText, SamModel


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw weights of models that are grown from the shipped ones, and equal to them."""
    folder = tmp_path_factory.mktemp("raw")
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(SHIPPED / "vae")
    save_raw(folder / "vae.safetensors", vae=grow(build_vae(), vae.state_dict()))
    write_latent(folder, "text_to_image", "text_to_image", 4)
    write_latent(folder, "instruction", "instruction", 8)
    write_latent(folder, "inpainting", "instruction", 9)
    save_raw(folder / "sam.safetensors", sam=SamModel.from_pretrained(SHIPPED / "sam"))
    judge = AutoModelForImageTextToText.from_pretrained(SHIPPED / "judge")
    save_raw(folder / "judge.safetensors", judge=judge)
    return folder


@pytest.fixture
def raw(grown: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the raw weights of some checkpoints."""

    def copy(*names: str) -> Path:
        folder = tmp_path / "raw"
        folder.mkdir()
        for name in names:
            shutil.copyfile(grown / f"{name}.safetensors", folder / f"{name}.safetensors")
        write_facts(folder)
        return folder

    return copy


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "papercut", symlinks=True))
