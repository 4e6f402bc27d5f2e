"""Loads a checkpoint of the Stable Diffusion shape once for all operators of an actor."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from overpaint.operators.diffusion.attention import AttentionControl, AttentionEdits
from overpaint.operators.diffusion.attention_processor import install_attention_control
from overpaint.operators.diffusion.control_nets import Control, load_controls, residuals
from overpaint.operators.diffusion.image_prompts import ImagePrompt, load_image_prompt
from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
from overpaint.operators.diffusion.schedule import Schedule, Step, make_schedule
from overpaint.operators.diffusion.task_labels import class_labels, load_task_labels
from overpaint.operators.models.additions import add_to_pipeline
from overpaint.operators.models.pretrained import device, quietly, torch_dtype
from overpaint.operators.models.tokenizing import TextLength, one_call_at_a_time, text_length
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True, slots=True)
class LatentModel:
    """A loaded latent diffusion model.

    Attributes:
        checkpoint: weights that it was loaded from.
        identity: revision or digest of the exact weights.
        unet: a UNet2DConditionModel.
        vae: an AutoencoderKL.
        text: tokenizer and text encoder; two pairs where the checkpoint is an SDXL.
        scheduler_config: configuration of the checkpoint's scheduler.
        force_zeros_for_empty_prompt: whether an empty negative prompt is embedded as zeros.
        attention: turns attention edits on and off.
        device: where it computes.
        spent: network evaluations so far, over all rows.
        oom_fallbacks: ways in which memory was freed that can change the last digit.
        prompts: embeddings of the latest prompts.
        is_offloaded: whether parts take turns on the device.
        controls: ControlNets beside the UNet.
        image_prompt: IP-Adapter of the UNet.
        unet_hook: accelerate's hook of the UNet, where parts take turns on the device.
    """

    checkpoint: Checkpoint
    identity: str
    unet: Any
    vae: Any
    text: tuple[tuple[Any, Any], ...]
    scheduler_config: Mapping[str, Any]
    force_zeros_for_empty_prompt: bool
    attention: AttentionControl
    device: torch.device
    spent: Cost = field(default_factory=Cost)
    oom_fallbacks: tuple[str, ...] = ()
    prompts: dict[str, Any] = field(default_factory=dict[str, Any])
    is_offloaded: bool = False
    controls: tuple[Control, ...] = ()
    image_prompt: ImagePrompt | None = None
    unet_hook: Any = None

    def spend(self, cost: Cost) -> None:
        """Counts network evaluations."""
        self.spent = self.spent + cost

    def make_room_for_vae(self) -> None:
        """Takes the UNet off the device before the VAE computes, where parts take turns on it."""
        if self.unet_hook is not None:
            self.unet_hook.offload()

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text for the text encoder that cuts most of it."""
        lengths = [text_length(tokenizer, text) for tokenizer, _ in self.text]
        return max(lengths, key=lambda length: length.num_cut)

    @property
    def scaling_factor(self) -> float:
        """Factor between the VAE's latents and those that the UNet sees."""
        return float(self.vae.config.scaling_factor)

    @property
    def factor_px(self) -> int:
        """Pixels along a latent pixel's side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple_px(self) -> int:
        """Number that the sides of a picture are multiples of."""
        return self.factor_px * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def resolution_px(self) -> int:
        """Side of the square pictures that it was trained on."""
        return int(self.unet.config.sample_size) * self.factor_px

    def schedule(self, num_inference_steps: int, size_px: tuple[int, ...]) -> Schedule:
        """Returns the steps of a run; the size of the pictures has no part in them."""
        del size_px
        return make_schedule(self.scheduler_config, num_inference_steps)

    def evaluate(
        self,
        inputs_bchw: Tensor,
        step: Step,
        branches: tuple[str, ...],
        prompts: Sequence[PromptEmbeds],
        labels: Sequence[int | Sequence[int]],
        attention: AttentionEdits,
    ) -> Tensor:
        """Runs the UNet once for all branches; returns the predictions of one after the other.

        Args:
            inputs_bchw: inputs of all rows of the first branch, then of the next.
            step: noise level.
            branches: names of the branches.
            prompts: embedded prompts of each branch.
            labels: task label of each branch, or of each of its rows.
            attention: edits of attention.
        """
        dtype, num_rows = self.unet.dtype, len(inputs_bchw) // len(branches)
        tokens = torch.cat([embeds.tokens_bsd for embeds in prompts])
        height, width = inputs_bchw.shape[2:]
        inputs = inputs_bchw.to(dtype)
        given: dict[str, Any] = {
            "timestep": step.timestep,
            "encoder_hidden_states": tokens.to(dtype),
            "added_cond_kwargs": self._added_conditions(prompts, inputs_bchw),
        }
        pictures = next((p.controls_b3HW for p in prompts if p.controls_b3HW), ())
        added = residuals(self.controls, pictures, inputs, given) if pictures else {}
        self.spend(Cost(control=len(pictures) * len(inputs)))
        labels_b = class_labels(self.unet, labels, num_rows)
        with self.attention.on(attention, branches, step, (height, width)):
            prediction: Tensor = self.unet(
                inputs, class_labels=labels_b, return_dict=False, **given, **added
            )[0]
        self.spend(Cost(forward=len(inputs_bchw)))
        return prediction

    def _added_conditions(
        self, prompts: Sequence[PromptEmbeds], inputs_bchw: Tensor
    ) -> dict[str, Any] | None:
        """Returns what an IP-Adapter sees, and SDXL's pooled prompts and sizes, as they are."""
        num_rows = len(inputs_bchw) // len(prompts)
        images: dict[str, Any] = {}
        if self.image_prompt is not None:
            nothing = self.image_prompt.nothing
            nothing = nothing.expand(num_rows, *nothing.shape[1:])
            seen = [nothing if p.image_embeds is None else p.image_embeds for p in prompts]
            images = {"image_embeds": [torch.cat(seen)[:, None]]}
        pooled = [embeds.pooled_bp for embeds in prompts]
        if any(part is None for part in pooled):
            return images or None
        height, width = (side * self.factor_px for side in inputs_bchw.shape[2:])
        times = torch.tensor([height, width, 0, 0, height, width], device=inputs_bchw.device)
        return {
            "text_embeds": torch.cat([part for part in pooled if part is not None]),
            "time_ids": times.to(self.unet.dtype).expand(len(inputs_bchw), -1),
            **images,
        }


@lru_cache(maxsize=4)
def load_latent_model(checkpoint: Checkpoint) -> LatentModel:
    """Loads the model of a checkpoint; a second call returns the one already loaded.

    Raises:
        ValueError: the checkpoint is not of the Stable Diffusion shape, or its task labels are not
            of its UNet's size.
    """
    pipeline = _read_pipeline(checkpoint)
    parts: Mapping[str, Any] = pipeline.components
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if parts.get(name) is None:
            raise ValueError(
                f"checkpoint = {checkpoint.name!r} has no {name}: this method needs a checkpoint "
                "of the Stable Diffusion shape"
            )
    if parts.get("text_encoder_2") is not None and parts["vae"].config.get("force_upcast"):
        parts["vae"].to(torch.float32)  # SDXL's own VAE overflows in half precision
    load_task_labels(checkpoint, parts["unet"])
    image_prompt = load_image_prompt(checkpoint, parts["unet"])
    model = LatentModel(
        checkpoint=checkpoint,
        identity=checkpoint.identity(),
        unet=parts["unet"].eval().requires_grad_(False),
        vae=parts["vae"].eval().requires_grad_(False),
        text=_text_parts(parts),
        scheduler_config=parts["scheduler"].config,
        force_zeros_for_empty_prompt=bool(
            pipeline.config.get("force_zeros_for_empty_prompt", False)
        ),
        attention=install_attention_control(parts["unet"]),
        device=device(),
        controls=load_controls(checkpoint),
        image_prompt=image_prompt,
    )
    log.info("loaded %s on %s", checkpoint.name, model.device)
    return model


def free_memory(model: LatentModel, *, exact: bool) -> str | None:
    """Makes a model need less memory on its device.

    Args:
        model: changed in place, for all operators that share the model.
        exact: True only moves weights: each part is on the device while it computes, and in the
            machine's memory else. False also lets the VAE take one image of a batch at a time,
            which can change the last digit; such edits say so in `params_json`.

    Returns:
        A word for the measure that was taken; None where none is left.
    """
    if exact and model.device.type != "cpu" and not model.is_offloaded:
        _offload(model)
        return "offload"
    if not exact and not model.oom_fallbacks:
        model.vae.enable_slicing()
        model.oom_fallbacks = ("vae_slicing",)
        return "vae_slicing"
    return None


def _offload(model: LatentModel) -> None:
    """Moves each part to the device when it is called, and the part before it off the device.

    Nothing comes after the UNet, which leaves when `make_room_for_vae` is called.
    """
    from accelerate import cpu_offload_with_hook

    hook: Any = None
    for part in (*(encoder for _, encoder in model.text), model.vae, model.unet):
        _, hook = cpu_offload_with_hook(part, model.device, prev_module_hook=hook)
    model.unet_hook = hook
    model.is_offloaded = True


def _read_pipeline(checkpoint: Checkpoint) -> Any:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    checkpoint = checkpoint.fetched()
    path = checkpoint.path
    index: Any = DiffusionPipeline.load_config(path, **checkpoint.source_options())
    unused: dict[str, Any] = {
        name: None
        for name in ("safety_checker", "feature_extractor", "image_encoder")
        if name in index
    }
    if "requires_safety_checker" in index:
        unused["requires_safety_checker"] = False
    with quietly():
        pipeline: Any = DiffusionPipeline.from_pretrained(
            path,
            dtype=torch_dtype(checkpoint.dtype),
            variant=checkpoint.weights_variant(),
            **unused,
            **checkpoint.weight_options(),
        ).to(device())
        add_to_pipeline(pipeline, checkpoint)
    return pipeline


def _text_parts(parts: Mapping[str, Any]) -> tuple[tuple[Any, Any], ...]:
    pairs = [(parts["tokenizer"], parts["text_encoder"])]
    if parts.get("text_encoder_2") is not None:
        pairs.append((parts["tokenizer_2"], parts["text_encoder_2"]))
    return tuple((one_call_at_a_time(tokenizer), encoder.eval()) for tokenizer, encoder in pairs)
