"""Checkpoint folders of raw weights, in the layout of those that come along."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import (
    StableDiffusionInpaintPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from overpaint.jobs.training.history import read_history, write_history
from overpaint.jobs.training.instruction import build_edit_scheduler
from overpaint.jobs.training.latent_pipelines import build_pipeline, save_pipeline
from overpaint.jobs.training.parallel.raw_weights import FACTS_FILE, Facts, load_raw, read_shapes
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.text_to_image import build_scheduler, build_unet
from overpaint.jobs.training.vae import build_vae
from overpaint.operators.models.task_labels import TASK_LABELS_FILE
from safetensors.torch import save_file
from torch import nn

TASK_LABELS = "task_labels"
_LABELS = f"{TASK_LABELS}.weight"
_BASE = "instruction"
"""Checkpoint whose text encoder and tokenizer a new latent pipeline has."""


class _Latent(NamedTuple):
    """Kind of a latent pipeline.

    Attributes:
        kind: pipeline class of diffusers.
        in_channels: input channels of the UNet.
        build_scheduler: builder of the scheduler.
        needs_labels: True where the raw weights hold task labels in any case.
    """

    kind: Any
    in_channels: int
    build_scheduler: Callable[[], Any]
    needs_labels: bool = False


LATENT_PIPELINES = {
    "text_to_image": _Latent(StableDiffusionPipeline, 4, build_scheduler),
    "instruction": _Latent(StableDiffusionInstructPix2PixPipeline, 8, build_edit_scheduler),
    "inpainting": _Latent(StableDiffusionInpaintPipeline, 9, build_edit_scheduler, True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Folders between raw weights and the checkpoints that come along.

    Attributes:
        shipped: folder of the checkpoints of today, whose tokenizers, processors and text encoders
            the new ones have.
        folder: folder that the new ones are written to.
        facts: facts of the run that trained them.
    """

    shipped: Path
    folder: Path
    facts: Facts

    def stage(self, name: str, path: Path) -> None:
        """Writes the folder of a checkpoint; that of the vae goes before those that stand on it.

        Args:
            name: checkpoint.
            path: file of its raw weights.

        Raises:
            ValueError: the raw weights are not those of such a checkpoint.
        """
        record = self.facts.record(name)
        if name == "vae":
            self._stage_vae(path)
        elif name in LATENT_PIPELINES:
            self._stage_pipeline(name, path)
        else:
            self._stage_model(name, path)
        write_history(self.folder / name, [*read_history(self.shipped / name), record])

    def _stage_vae(self, path: Path) -> None:
        if self.facts.scaling_factor is None:
            raise ValueError(f"{FACTS_FILE} has no scaling_factor, which {path.name} needs")
        vae = build_vae()
        load_raw(path, {"vae": vae})
        vae.register_to_config(scaling_factor=self.facts.scaling_factor)
        save_fp16(vae, self.folder / "vae")

    def _stage_pipeline(self, name: str, path: Path) -> None:
        latent, folder = LATENT_PIPELINES[name], self.folder / name
        base = self.shipped / (name if (self.shipped / name).is_dir() else _BASE)
        unet = build_unet(in_channels=latent.in_channels)
        text_encoder = transformers.CLIPTextModel.from_pretrained(base / "text_encoder")
        modules: dict[str, nn.Module] = {"unet": unet, "text_encoder": text_encoder}
        if labels := _task_labels(path, unet, is_needed=latent.needs_labels):
            modules[TASK_LABELS] = labels
        load_raw(path, modules)
        vaes = self.folder if (self.folder / "vae").is_dir() else self.shipped
        pipeline = build_pipeline(
            latent.kind,
            vae=AutoencoderKL.from_pretrained(vaes / "vae"),
            text_encoder=text_encoder,
            tokenizer=transformers.CLIPTokenizer.from_pretrained(base / "tokenizer"),
            unet=unet,
            scheduler=latent.build_scheduler(),
        )
        save_pipeline(pipeline, folder)
        if labels is not None:
            _save_task_labels(labels, folder, path.name)

    def _stage_model(self, name: str, path: Path) -> None:
        shipped, folder = self.shipped / name, self.folder / name
        config = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
        kind = getattr(transformers, config["architectures"][0])
        model = kind.from_pretrained(shipped)
        load_raw(path, {name: model})
        shutil.copytree(shipped, folder)
        save_fp16(model, folder)


def _task_labels(path: Path, unet: Any, *, is_needed: bool) -> nn.Embedding | None:
    """Builds the embeddings of task labels that a file holds."""
    shape = read_shapes(path).get(_LABELS)
    width = int(unet.time_embedding.linear_2.out_features)
    if shape is None:
        return nn.Embedding(1, width) if is_needed else None
    if len(shape) != 2:
        raise ValueError(f"{path.name}: {_LABELS} has the shape {list(shape)}; it must have two")
    return nn.Embedding(shape[0], width)


def _save_task_labels(labels: nn.Embedding, folder: Path, name: str) -> None:
    weight = labels.weight.detach().half()
    if bool(weight[0].any()):
        raise ValueError(f"{name}: {_LABELS} does not begin with zeros: label 0 is no task")
    save_file({"weight": weight.contiguous()}, folder / TASK_LABELS_FILE)


def latents_differ(first: Path, second: Path) -> bool:
    """Tells whether two vae folders make other latents of an image."""
    one, other = (AutoencoderKL.from_pretrained(folder) for folder in (first, second))
    if one.config["scaling_factor"] != other.config["scaling_factor"]:
        return True
    weights, others = one.state_dict(), other.state_dict()
    encoder = {n for n in {*weights, *others} if not n.startswith(("decoder", "post_quant"))}
    return any(
        name not in weights or name not in others or not torch.equal(weights[name], others[name])
        for name in encoder
    )
