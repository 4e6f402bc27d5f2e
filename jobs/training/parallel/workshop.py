"""What the stages of a training share: device, drawn examples, and weights as they become ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from overpaint.jobs.training.grown import grow, with_input_channels
from overpaint.jobs.training.parallel.bank import Bank, Encode
from overpaint.jobs.training.parallel.stepper import StepSettings
from overpaint.jobs.training.vae import build_vae
from overpaint.jobs.training.vocabulary import token_table
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

M = TypeVar("M", bound=nn.Module)
Weights = Mapping[str, Tensor]

_VAE_EXAMPLES_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Inputs of all stages.

    Attributes:
        drawn: folder of the drawn arrays.
        shipped: folder with one folder for each checkpoint, whose weights stages start from.
        device: device of modules and banks.
        results: weights of the stages that have ended, by checkpoint, then by module and name.
        facts: numbers that stages find, such as `scaling_factor`.
    """

    drawn: Path
    shipped: Path
    device: torch.device
    results: dict[str, Weights] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def bank(self, kind: str, *fields: str, encode: Encode | None = None) -> Bank:
        """Opens a bank of a kind of drawn examples."""
        return Bank(self.drawn, kind, self.device, fields=fields or None, encode=encode)

    def shipped_weights(self, part: str) -> dict[str, Tensor]:
        """Reads the weights in a folder of the shipped checkpoints, float32."""
        (path,) = (p for p in (self.shipped / part).glob("*.safetensors") if "labels" not in p.name)
        return {name: value.float() for name, value in load_file(path).items()}

    def result(self, checkpoint: str, module: str) -> dict[str, Tensor] | None:
        """Returns a module's weights of a stage that has ended, float32; None if none has."""
        if checkpoint not in self.results:
            return None
        prefix = f"{module}."
        return {
            name.removeprefix(prefix): value.float()
            for name, value in self.results[checkpoint].items()
            if name.startswith(prefix)
        }

    def grown(
        self,
        module: M,
        checkpoint: str,
        name: str,
        *,
        folder: str = "",
        first: Callable[[Tensor], Tensor] | None = None,
    ) -> M:
        """Returns a module with the weights of an ended stage, else with the shipped ones.

        Args:
            module: module to load into.
            checkpoint: name of the checkpoint that the weights are of.
            name: name of the module among those of the checkpoint.
            folder: folder of the module in that of the shipped checkpoint.
            first: change of the first convolution, for another number of input channels.
        """
        weights = self.result(checkpoint, name)
        if weights is None:
            weights = self.shipped_weights(f"{checkpoint}/{folder}" if folder else checkpoint)
        if first is not None:
            weights = with_input_channels(weights, first(weights["conv_in.weight"]))
        return grow(module, weights)

    def text_encoder(self, checkpoint: str) -> CLIPTextModel:
        """Returns the text encoder of a latent model."""
        path = self.shipped / checkpoint / "text_encoder"
        model = CLIPTextModel.from_pretrained(path, dtype=torch.float32)
        if weights := self.result(checkpoint, "text_encoder"):
            model.load_state_dict(weights, strict=False)
        return model

    def task_labels(self, checkpoint: str) -> Tensor | None:
        """Returns the embeddings of a checkpoint's task labels; None before any are trained."""
        return (self.result(checkpoint, "task_labels") or {}).get("weight")

    def empty_prompt(self) -> Tensor:
        """Returns the token ids T of the empty prompt."""
        tokenizer = CLIPTokenizer.from_pretrained(self.shipped / "clip")
        return token_table(tokenizer, [""])[0].to(self.device)

    @property
    def scaling_factor(self) -> float:
        """Scaling factor of the latents."""
        if "scaling_factor" in self.facts:
            return float(self.facts["scaling_factor"])
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        config: Any = AutoencoderKL.load_config(self.shipped / "vae")
        return float(config["scaling_factor"])

    def frozen_vae(self) -> Any:
        """Returns the vae at rest, float32 on the device, with the scaling factor that holds."""
        vae: Any = self.grown(build_vae(), "vae", "vae")
        vae.register_to_config(scaling_factor=self.scaling_factor)
        return vae.to(self.device).eval().requires_grad_(False)

    def encoder(self) -> Callable[[Tensor], Tensor]:
        """Returns the function from images, -1 to 1, to scaled latents in bf16."""
        # Banks hold bf16, and a GPU encodes in it in half the time.
        vae = self.frozen_vae().to(torch.bfloat16 if self.device.type == "cuda" else torch.float32)

        @torch.no_grad()
        def encode(images_n3hw: Tensor) -> Tensor:
            batches = images_n3hw.to(vae.dtype).split(_VAE_EXAMPLES_AT_ONCE)
            means = [vae.quant_conv(vae.encoder(batch)).chunk(2, dim=1)[0] for batch in batches]
            return (torch.cat(means) * vae.config.scaling_factor).to(torch.bfloat16)

        return encode


class Trainee:
    """Modules of a stage with their loss.

    Args:
        modules: modules to train, by name.
        loss: function that draws a batch and returns its loss.
        banks: banks that the loss picks from.
        on_progress: function that is called before each step with the used fraction of the time.
        finish: function that is called once the stage has ended and its weights are results.
        unguarded: fractions of the time between which the loss changes its meaning.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        loss: Callable[[], Tensor],
        banks: tuple[Bank, ...],
        *,
        on_progress: Callable[[float], None] | None = None,
        finish: Callable[[], None] | None = None,
        unguarded: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.modules = modules
        self.loss = loss
        self.banks = banks
        self.on_progress = on_progress
        self.finish = finish
        self.unguarded = unguarded

    def pull(self, at_least: int = 0) -> None:
        """Copies what has been drawn since to the device."""
        for bank in self.banks:
            bank.pull(at_least)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Part of a lane: one checkpoint in training for a share of the time.

    Attributes:
        name: name of the stage.
        checkpoint: checkpoint whose weights it trains.
        share: share of the time, relative to the other stages of its lane.
        batch_size: examples a step on a GPU.
        cpu_batch_size: examples a step on a CPU.
        settings: hyperparameters.
        build: function that builds modules and loss for a batch size.
        note: differences for the checkpoint's training history.
    """

    name: str
    checkpoint: str
    share: float
    batch_size: int
    cpu_batch_size: int
    settings: StepSettings
    build: Callable[[Workshop, int], Trainee]
    note: str = ""
