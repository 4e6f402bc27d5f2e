"""Stages of the lane of latent models: vae, text_to_image, instruction, inpainting, and decoder.

What reads the vae's encoder comes after it; the decoder is trained last, for the latents that the
encoder at rest gives.
"""

from collections.abc import Mapping

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from overpaint.jobs.training import losses
from overpaint.jobs.training.grown import (
    attach_task_labels,
    inpainting_channels,
)
from overpaint.jobs.training.instruction import TYPE_WEIGHTS
from overpaint.jobs.training.parallel.bank import Bank
from overpaint.jobs.training.parallel.stepper import StepSettings
from overpaint.jobs.training.parallel.workshop import Stage, Trainee, Workshop
from overpaint.jobs.training.text_to_image import DETAILED_CAPTION_SHARE, build_unet
from overpaint.jobs.training.vae import build_vae
from overpaint.pipeline.edit_types import EDIT_TYPES
from torch import Tensor
from torch.nn import functional

NUM_INSTRUCTION_LABELS = 24
NUM_INPAINTING_LABELS = 16
_CLEAN_OUTSIDE_TASK = 7
_UNKNOWN_LABEL_SHARE = 0.5
_VIEW_SHARE = 0.125
_SCALE_EXAMPLES = 1024


def _vae(shop: Workshop, batch_size: int) -> Trainee:
    vae = shop.grown(build_vae(), "vae", "vae")
    scenes, views = shop.bank("scene", "image"), shop.bank("view", "image")

    def loss() -> Tensor:
        return losses.vae_loss(
            vae, losses.mirrored(_pictures(scenes, views, batch_size, vae.dtype))
        )

    return Trainee({"vae": vae}, loss, (scenes, views), finish=lambda: _measure_scale(shop))


def _decoder(shop: Workshop, batch_size: int) -> Trainee:
    vae = shop.grown(build_vae(), "vae", "vae")
    vae.register_to_config(scaling_factor=shop.scaling_factor)
    for name in ("encoder", "quant_conv"):
        vae.get_submodule(name).requires_grad_(False)
    scenes, views = shop.bank("scene", "image"), shop.bank("view", "image")

    def loss() -> Tensor:
        return losses.decoder_loss(vae, _pictures(scenes, views, batch_size, vae.dtype))

    return Trainee({"vae": vae}, loss, (scenes, views))


def _pictures(scenes: Bank, views: Bank, batch_size: int, dtype: torch.dtype) -> Tensor:
    """Returns scenes with some other pictures among them, N3HW, -1 to 1."""
    num_views = max(1, int(batch_size * _VIEW_SHARE))
    picked = [
        scenes.fields["image"][scenes.pick(batch_size - num_views)],
        views.fields["image"][views.pick(num_views)],
    ]
    return losses.to_images(torch.cat(picked), dtype)


@torch.no_grad()
def _measure_scale(shop: Workshop) -> None:
    """Sets the factor that gives latents a standard deviation of 1; it never changes again."""
    bank = shop.bank("scene", "image")
    bank.pull(1)
    vae = shop.frozen_vae()
    images = losses.to_images(bank.fields["image"][: min(bank.num_ready, _SCALE_EXAMPLES)])
    means = [vae.quant_conv(vae.encoder(part)).chunk(2, 1)[0] for part in images.split(256)]
    shop.facts["scaling_factor"] = round(1.0 / float(torch.cat(means).std()), 4)


def _text_to_image(shop: Workshop, batch_size: int) -> Trainee:
    unet = shop.grown(build_unet(), "text_to_image", "unet", folder="unet")
    text_encoder, empty = shop.text_encoder("text_to_image"), shop.empty_prompt()
    encode = shop.encoder()

    def keep(drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        latents = encode(losses.to_images(drawn["image"]))
        return {"latents": latents} | {k: drawn[k] for k in ("captions", "num_captions")}

    bank = shop.bank("scene", "image", "captions", "num_captions", encode=keep)
    plain = torch.zeros((), device=shop.device)

    def loss() -> Tensor:
        picked = bank.pick(batch_size)
        tokens = losses.drop_prompts(_captions(bank, picked), empty)
        latents = bank.fields["latents"][picked].float()
        return losses.text_to_image_loss(unet, text_encoder, latents, tokens, plain)

    def on_progress(progress: float) -> None:
        plain.fill_(losses.plain_share(progress))

    modules = {"unet": unet, "text_encoder": text_encoder}
    unguarded = (losses.MIN_SNR_END, losses.MIN_SNR_END + 2 * losses.MIN_SNR_FADE)
    return Trainee(modules, loss, (bank,), on_progress=on_progress, unguarded=unguarded)


def _captions(bank: Bank, picked: Tensor) -> Tensor:
    """Draws a caption of each scene: with a probability the most detailed, else any."""
    chance = torch.rand(2, len(picked), device=picked.device)
    choice = (chance[0] * bank.fields["num_captions"][picked]).long()
    choice = choice * (chance[1] > DETAILED_CAPTION_SHARE)
    return bank.fields["captions"][picked, choice].long()


def _instruction(shop: Workshop, batch_size: int) -> Trainee:
    unet = shop.grown(build_unet(in_channels=8), "instruction", "unet", folder="unet")
    labels = shop.task_labels("instruction")
    attach_task_labels(unet, NUM_INSTRUCTION_LABELS, labels)
    text_encoder, empty = shop.text_encoder("instruction"), shop.empty_prompt()
    encode, scale = shop.encoder(), shop.scaling_factor

    def keep(drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        latents = {n: encode(losses.to_images(drawn[n])) for n in ("source", "target")}
        return latents | {"instructions": drawn["instructions"]}

    bank = shop.bank("edit", "source", "target", "instructions", encode=keep)
    shares = torch.tensor([TYPE_WEIGHTS.get(name, 1.0) for name in EDIT_TYPES])
    cumulative = (shares.cumsum(0) / shares.sum()).to(shop.device)

    def loss() -> Tensor:
        picked, types = _pick_edits(bank, batch_size, cumulative)
        edits = losses.EditBatch(
            sources=bank.fields["source"][picked].float(),
            targets=bank.fields["target"][picked].float(),
            tokens=_any_text(bank.fields["instructions"], picked),
            labels=_some_labels(types + 1),
        )
        return losses.instruction_loss(unet, text_encoder, edits, empty, scale)

    return Trainee({"unet": unet, "text_encoder": text_encoder}, loss, (bank,))


def _pick_edits(bank: Bank, batch_size: int, cumulative: Tensor) -> tuple[Tensor, Tensor]:
    """Picks edit types by their shares, then edits of these types; edit i is of type i % 12."""
    num_types = len(cumulative)
    chance = torch.rand(2, batch_size, device=cumulative.device)
    types = torch.searchsorted(cumulative, chance[0]).clamp(max=num_types - 1)
    rounds = (bank.ready / num_types).floor()
    return (chance[1] * rounds).floor().long() * num_types + types, types


def _any_text(texts: Tensor, picked: Tensor) -> Tensor:
    choice = torch.rand(len(picked), device=picked.device) * texts.shape[1]
    return texts[picked, choice.long()].long()


def _some_labels(labels: Tensor) -> Tensor:
    """Returns the labels, half of them replaced by 0: unknown."""
    chance = torch.rand(len(labels), device=labels.device)
    return torch.where(chance < _UNKNOWN_LABEL_SHARE, 0, labels)


def _inpainting(shop: Workshop, batch_size: int) -> Trainee:
    unet = _inpainting_unet(shop)
    attach_task_labels(unet, NUM_INPAINTING_LABELS, shop.task_labels("inpainting"))
    begun = "inpainting" if "inpainting" in shop.results else "instruction"
    text_encoder, empty = shop.text_encoder(begun), shop.empty_prompt()
    bank = _fill_bank(shop)

    def loss() -> Tensor:
        picked = bank.pick(batch_size)
        fields = {name: values[picked] for name, values in bank.fields.items() if name != "texts"}
        fills = losses.FillBatch(
            targets=fields["target"].float(),
            shown=fields["shown"].float(),
            masks=fields["mask"].float(),
            tokens=_any_text(bank.fields["texts"], picked),
            labels=_some_labels(fields["task"].long()),
            is_clean_outside=fields["task"] == _CLEAN_OUTSIDE_TASK,
        )
        return losses.inpainting_loss(unet, text_encoder, fills, empty)

    return Trainee({"unet": unet, "text_encoder": text_encoder}, loss, (bank,))


def _inpainting_unet(shop: Workshop) -> UNet2DConditionModel:
    """Returns the UNet as far as it is trained; at first it is instruction's, further channels."""
    unet = build_unet(in_channels=9)
    if "inpainting" in shop.results:
        return shop.grown(unet, "inpainting", "unet")
    scale = shop.scaling_factor

    def first(weights: Tensor) -> Tensor:
        return inpainting_channels(weights, scale)

    return shop.grown(unet, "instruction", "unet", folder="unet", first=first)


def _fill_bank(shop: Workshop) -> Bank:
    encode = shop.encoder()

    def keep(drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = drawn["mask"].float()[:, None]
        hidden = masks * drawn["is_masked"].float()[:, None, None, None]
        shown = losses.to_images(drawn["shown"]) * (1.0 - hidden)
        return {
            "target": encode(losses.to_images(drawn["target"])),
            "shown": encode(shown),
            "mask": _latent_masks(masks),
            "texts": drawn["texts"],
            "task": drawn["task"],
        }

    return shop.bank("fill", encode=keep)


def _latent_masks(masks_n1hw: Tensor) -> Tensor:
    """Returns masks of latent size, half as diffusers takes them, half where most is masked."""
    factor = 4
    nearest = masks_n1hw[:, :, ::factor, ::factor]
    most = (functional.avg_pool2d(masks_n1hw, factor) >= 0.5).float()
    is_nearest = torch.arange(len(masks_n1hw), device=masks_n1hw.device) % 2 == 0
    return torch.where(is_nearest[:, None, None, None], nearest, most).to(torch.bfloat16)


LATENT_STAGES: tuple[Stage, ...] = (
    Stage(
        name="vae",
        checkpoint="vae",
        share=105,
        batch_size=64,
        cpu_batch_size=16,
        settings=StepSettings(learning_rate=1e-3, warmup_steps=100, ema_decay=0.999),
        build=_vae,
        note="two layers a block; masks, maps, sketches and crops among the scenes",
    ),
    Stage(
        name="text_to_image",
        checkpoint="text_to_image",
        share=130,
        batch_size=128,
        cpu_batch_size=32,
        settings=StepSettings(learning_rate=1e-3, warmup_steps=500),
        build=_text_to_image,
        note="all scenes; attention at both levels",
    ),
    Stage(
        name="instruction",
        checkpoint="instruction",
        share=170,
        batch_size=128,
        cpu_batch_size=32,
        settings=StepSettings(learning_rate=1e-3, warmup_steps=300),
        build=_instruction,
        note="attention at both levels; half of the edits with a label of their type",
    ),
    Stage(
        name="inpainting",
        checkpoint="inpainting",
        share=60,
        batch_size=128,
        cpu_batch_size=32,
        settings=StepSettings(learning_rate=8e-4, warmup_steps=200, ema_decay=0.999),
        build=_inpainting,
        note="starts from instruction",
    ),
    Stage(
        name="decoder",
        checkpoint="vae",
        share=35,
        batch_size=64,
        cpu_batch_size=16,
        settings=StepSettings(learning_rate=4e-4, warmup_steps=50, ema_decay=0.999, is_half=False),
        build=_decoder,
        note="decoder alone, on latents with noise",
    ),
)
"""Stages in the order in which they depend on each other."""
