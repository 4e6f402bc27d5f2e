"""The `instruction` checkpoint: a StableDiffusionInstructPix2PixPipeline that edits as it is told.

As in the paper (arXiv 2211.09800) the UNet is text_to_image's with 4 more input channels, zero at
first, for the latents of the source, which are not scaled; the instruction, the source or both are
sometimes left out, so that each can be guided. Sources and true targets are encoded once.

It predicts velocity, on a schedule that ends in pure noise (arXiv 2305.08891): where noise is all
there is, that is to predict the target from the source. From a noise prediction the target would be
the small difference of two large numbers there, and what should be kept would drift in colour.

Shapes: n edits, 4 latent channels, y and x latent pixels, t tokens, d text features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from overpaint.jobs.papercut.edits import EditType
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache, Example
from overpaint.jobs.training.latent_pipelines import build_pipeline, save_pipeline
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.text_to_image import add_noise, build_scheduler
from overpaint.jobs.training.vae import encode
from overpaint.jobs.training.vocabulary import token_table
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

GUIDANCE_SCALE = 2.0
IMAGE_GUIDANCE_SCALE = 1.5
NUM_INFERENCE_STEPS = 20
_CONDITIONING_DROPOUT = 0.05
# Latents have a deviation of about 1; what an edit changes leaks by less than this to its sides.
_LEAST_CHANGE = 0.5
_LEAST_SHARE = 0.05
# How much more often than the others the types are picked that are learned slowly.
_TYPE_WEIGHTS: dict[EditType, float] = {
    "move": 4.0,
    "texture": 4.0,
    "add": 2.0,
    "remove": 2.0,
    "background": 2.0,
    "style": 2.0,
}
_NUM_SHOWN = 24
_NUM_MEASURED = 36
_NUM_MEASURED_STEPS = 10


class EditSampling(NamedTuple):
    """How an edit is sampled."""

    text: float = GUIDANCE_SCALE
    image: float = IMAGE_GUIDANCE_SCALE
    num_steps: int = NUM_INFERENCE_STEPS


def widen_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The UNet with twice as many input channels; those added change nothing yet."""
    settings: Any = dict(unet.config)
    wide: Any = UNet2DConditionModel.from_config(settings | {"in_channels": 8})
    weights = unet.state_dict()
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    wide.load_state_dict(weights)
    return wide


def build_edit_scheduler() -> DDIMScheduler:
    """text_to_image's noise schedule, for velocity and with a last step of pure noise."""
    settings: Any = build_scheduler().config
    made: Any = DDIMScheduler.from_config(
        settings,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionTrainingTask:
    """The instruction editor in training: UNet and text encoder together, the vae at rest.

    `train` holds the latents of `source` and `target` (float16, scaled), `test` the images of both;
    `tokens_npt` has the tokens of some phrasings of each instruction, `sampling_weights_n` the
    chance of each edit to be picked.
    """

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    vae: Any
    scheduler: Any
    train: Cache
    test: Cache
    tokens_npt: Tensor
    sampling_weights_n: NDArray[np.float64]
    config: TrainingConfig
    name: str = "instruction"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """UNet and text encoder."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def loss(self, context: StepContext) -> Tensor:
        """Error of the predicted velocity, half of it where the edits change something."""
        size = self.config.batch_size
        picks = np.sort(context.rng.choice(len(self.train), size=size, p=self.sampling_weights_n))
        target, source = (self._latents(name, picks, context) for name in ("target", "source"))
        tokens, shown = self._drop_conditioning(self._tokens(picks, context), source, context)
        text_ntd = self.text_encoder(tokens.to(context.device))[0]
        noise, times, noisy = add_noise(target, self.scheduler, context.generator)
        seen = torch.cat([noisy, shown / self.vae.config.scaling_factor], dim=1)
        made = self.unet(seen, times, encoder_hidden_states=text_ntd).sample.float()
        velocity = self.scheduler.get_velocity(target, noise, times)
        return (change_weights(source, target) * (made - velocity) ** 2).mean()

    def _latents(self, name: str, picks: NDArray[np.int64], context: StepContext) -> Tensor:
        return torch.from_numpy(self.train.arrays[name][picks]).to(context.device).float()

    def _tokens(self, picks: NDArray[np.int64], context: StepContext) -> Tensor:
        phrasings = context.rng.integers(self.tokens_npt.shape[1], size=len(picks))
        return self.tokens_npt[picks, phrasings]

    def _drop_conditioning(
        self, tokens_nt: Tensor, source_n4yx: Tensor, context: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Instructions and sources, 5 % without instruction, 5 % without source, 5 % neither."""
        dice = torch.from_numpy(context.rng.random(len(tokens_nt)))
        no_text = dice < 2 * _CONDITIONING_DROPOUT
        no_image = (dice >= _CONDITIONING_DROPOUT) & (dice < 3 * _CONDITIONING_DROPOUT)
        empty = token_table(self.tokenizer, [""])
        shown = source_n4yx * (~no_image).to(source_n4yx)[:, None, None, None]
        return torch.where(no_text[:, None], empty, tokens_nt), shown

    def export(self, folder: Path) -> None:
        """Write the whole pipeline, the vae included."""
        save_pipeline(self.pipeline(), folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Median gain, and share of gains of 0.5 or more, of a few unseen edits, few steps each."""
        made = self._edit(range(min(_NUM_MEASURED, len(self.test))), _NUM_MEASURED_STEPS)
        gains = gain(made, self.test.arrays["source"], self.test.arrays["target"])
        return {"gain": float(np.median(gains)), "success": float((gains >= 0.5).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen sources, below each the edit, and below that the true target."""
        rows: list[NDArray[np.uint8]] = []
        for start in (0, _NUM_SHOWN // 2):
            which = range(start, min(start + _NUM_SHOWN // 2, len(self.test)))
            part = slice(which.start, which.stop)
            sources, targets = (self.test.arrays[name][part] for name in ("source", "target"))
            if which:
                rows += [sources, self._edit(which, _NUM_MEASURED_STEPS), targets]
        return pictures.image_grid(rows)

    def _edit(self, which: range, num_steps: int) -> NDArray[np.uint8]:
        instructions = [self.test.texts[i]["phrasings"][0] for i in which]
        sources = self.test.arrays["source"][which.start : which.stop]
        guidance = EditSampling(num_steps=num_steps)
        return edit_images(self.pipeline(), sources, instructions, guidance)

    def pipeline(self) -> StableDiffusionInstructPix2PixPipeline:
        """The pipeline around the modules in training."""
        return build_pipeline(
            StableDiffusionInstructPix2PixPipeline,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
        )


def change_weights(source_n4yx: Tensor, target_n4yx: Tensor) -> Tensor:
    """Weights N1YX, 1 on average: half of them where latents change, half where they shall not.

    How well an edit is done is measured against how much it changes, and what it keeps by itself:
    a small object counts as much as a whole background, be it the one to change or the one to keep.
    """
    change_n1yx = (target_n4yx - source_n4yx).abs().amax(dim=1, keepdim=True)
    changed = (change_n1yx > _LEAST_CHANGE).float()
    share = changed.mean(dim=(1, 2, 3), keepdim=True)
    weights = changed / share.clamp(min=_LEAST_SHARE)
    weights += (1.0 - changed) / (1.0 - share).clamp(min=_LEAST_SHARE)
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


@torch.no_grad()
def edit_images(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    sources: NDArray[np.uint8],
    instructions: Sequence[str],
    guidance: EditSampling,
    *,
    batch_size: int = 12,
) -> NDArray[np.uint8]:
    """Edited images, RGB uint8 NHWC like the sources; image i starts from the noise of seed i."""
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(instructions), batch_size):
        part = list(instructions[start : start + batch_size])
        made: Any = pipeline(
            part,
            image=np.asarray(sources[start : start + batch_size], np.float32) / 255.0,
            guidance_scale=guidance.text,
            image_guidance_scale=guidance.image,
            num_inference_steps=guidance.num_steps,
            generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
            output_type="np",
        )
        parts.append(np.round(np.asarray(made[0]) * 255.0).astype(np.uint8))
    return np.concatenate(parts)


def gain(
    edited: NDArray[np.uint8], sources: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """1 - MSE(edited, target) / MSE(source, target) of each edit; RGB uint8 NHWC."""

    def mse(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        true = targets[: len(edited)].astype(np.float64)
        return ((images[: len(edited)] - true) ** 2).mean(axis=(1, 2, 3))

    return 1.0 - mse(edited) / mse(sources)


def sampling_weights(cache: Cache) -> NDArray[np.float64]:
    """Chance of each edit to be picked: the types that are learned slowly more often."""
    efforts = np.array([_TYPE_WEIGHTS.get(entry["edit_type"], 1.0) for entry in cache.texts])
    return efforts / efforts.sum()


def phrasing_tokens(cache: Cache, tokenizer: CLIPTokenizer, *, num_phrasings: int = 6) -> Tensor:
    """Tokens of `num_phrasings` phrasings an edit, by edit and phrasing; few are repeated."""
    texts = [
        entry["phrasings"][i % len(entry["phrasings"])]
        for entry in cache.texts
        for i in range(num_phrasings)
    ]
    return token_table(tokenizer, texts).reshape(len(cache), num_phrasings, -1)


def edit_latent_examples(edits: Cache, vae: Any, device: torch.device) -> Callable[[int], Example]:
    """From an edit's index to the latents (float16) of source and target, and its texts."""

    @lru_cache(maxsize=1)
    @torch.no_grad()
    def encoded(block: int) -> dict[str, NDArray[np.float16]]:
        part = slice(block * 64, (block + 1) * 64)
        return {
            name: encode(vae, pictures.to_tensor(edits.arrays[name][part], device))
            .half()
            .cpu()
            .numpy()
            for name in ("source", "target")
        }

    def draw(index: int) -> Example:
        block = encoded(index // 64)
        arrays = {name: latents[index % 64] for name, latents in block.items()}
        return Example(arrays, edits.texts[index])

    return draw
