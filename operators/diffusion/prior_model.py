"""A checkpoint with a diffusion prior: Kandinsky 2.2, whose decoder draws a CLIP image embedding.

The prior, a transformer, turns noise into an image embedding as a text says; the decoder, a UNet,
denoises latents as an image embedding says. Shapes: b rows, s tokens, d channels of an embedding,
c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from overpaint.operators.models.additions import add_to_pipeline
from overpaint.operators.models.pretrained import device, quietly, torch_dtype
from overpaint.operators.models.tokenizing import TextLength, one_call_at_a_time, text_length
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import Pixels
from PIL import Image
from torch import Tensor

_MAX_CACHED_PROMPTS = 256
_PIPELINE = "KandinskyV22CombinedPipeline"


class PriorPrompt(NamedTuple):
    """A prompt as the prior reads it.

    Attributes:
        pooled_1d: the text's embedding.
        tokens_1sd: embeddings of its tokens.
        mask_1s: True where there is a token.
    """

    pooled_1d: Tensor
    tokens_1sd: Tensor
    mask_1s: Tensor


class Movq:
    """Kandinsky's autoencoder, which can take one picture of a batch at a time."""

    def __init__(self, movq: Any) -> None:
        self._movq = movq
        self._is_sliced = False

    def enable_slicing(self) -> None:
        """Takes one picture at a time from now on."""
        self._is_sliced = True

    def disable_slicing(self) -> None:
        """Takes whole batches again."""
        self._is_sliced = False

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images b3HW to latents bchw."""
        parts = images.to(self._movq.dtype).split(1 if self._is_sliced else len(images))
        return torch.cat([self._movq.encode(part).latents for part in parts]).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents bchw to images b3HW."""
        parts = latents.to(self._movq.dtype).split(1 if self._is_sliced else len(latents))
        decoded = [self._movq.decode(part, force_not_quantize=True).sample for part in parts]
        return torch.cat(decoded).float()


@dataclass(eq=False, kw_only=True, slots=True)
class PriorModel:
    """A loaded checkpoint with a prior.

    Attributes:
        identity: revision or digest of the exact weights.
        parts: diffusers' KandinskyV22CombinedPipeline, whose parts are called one by one.
        vae: its autoencoder.
        device: where it computes.
        no_image_1d: embedding of an image of zeros, the negative one of the decoder.
        spent: network evaluations so far, over all rows.
        oom_fallbacks: ways in which memory was freed that can change the last digit.
        prompts: embeddings of the latest prompts.
    """

    identity: str
    parts: Any
    vae: Movq
    device: torch.device
    no_image_1d: Tensor
    spent: Cost = field(default_factory=Cost)
    oom_fallbacks: tuple[str, ...] = ()
    prompts: dict[str, PriorPrompt] = field(default_factory=dict[str, PriorPrompt])

    def spend(self, cost: Cost) -> None:
        """Counts network evaluations."""
        self.spent = self.spent + cost

    @property
    def factor_px(self) -> int:
        """Pixels along a latent pixel's side."""
        return 2 ** (len(self.parts.movq.config.block_out_channels) - 1)

    @property
    def multiple_px(self) -> int:
        """Number that the sides of a picture are multiples of."""
        return self.factor_px * 2 ** (len(self.parts.unet.config.block_out_channels) - 1)

    @property
    def resolution_px(self) -> int:
        """Side of the square pictures that it was trained on."""
        return int(self.parts.unet.config.sample_size) * self.factor_px

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text for the prior's text encoder."""
        return text_length(self.parts.prior_tokenizer, text)

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Pixels]) -> Tensor:
        """Returns the CLIP image embedding of each picture, RGB uint8 HWC: bd."""
        images = [Image.fromarray(picture) for picture in pictures]
        pixels = self.parts.prior_image_processor(images=images, return_tensors="pt")
        encoder = self.parts.prior_image_encoder
        self.spend(Cost(clip=len(images)))
        return encoder(pixels["pixel_values"].to(self.device, encoder.dtype)).image_embeds.float()

    @torch.no_grad()
    def embed_prompt(self, prompt: str) -> PriorPrompt:
        """Embeds a prompt alone."""
        embedded = self.prompts.pop(prompt, None)
        if embedded is None:
            tokenizer = self.parts.prior_tokenizer
            tokens = tokenizer(
                prompt,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).to(self.device)
            output = self.parts.prior_text_encoder(tokens.input_ids)
            mask = tokens.attention_mask.bool()
            embedded = PriorPrompt(output.text_embeds, output.last_hidden_state, mask)
            self.spend(Cost(text=1))
            if len(self.prompts) >= _MAX_CACHED_PROMPTS:
                del self.prompts[next(iter(self.prompts))]
        self.prompts[prompt] = embedded
        return embedded

    @torch.no_grad()
    def prior(self, noisy_bd: Tensor, timestep: Tensor, prompts: Sequence[PriorPrompt]) -> Tensor:
        """Runs the prior once; returns its prediction of the clean embeddings bd."""
        prior = self.parts.prior_prior
        self.spend(Cost(forward=len(noisy_bd)))
        return prior(
            noisy_bd.to(prior.dtype),
            timestep=timestep,
            proj_embedding=torch.cat([prompt.pooled_1d for prompt in prompts]),
            encoder_hidden_states=torch.cat([prompt.tokens_1sd for prompt in prompts]),
            attention_mask=torch.cat([prompt.mask_1s for prompt in prompts]),
        ).predicted_image_embedding.float()

    @torch.no_grad()
    def predict(self, latents_bchw: Tensor, timestep: int, images_bd: Tensor) -> Tensor:
        """Runs the decoder's UNet once; returns the noise bchw that it predicts."""
        unet = self.parts.unet
        self.spend(Cost(forward=len(latents_bchw)))
        predicted = unet(
            latents_bchw.to(unet.dtype),
            timestep,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": images_bd.to(unet.dtype)},
        ).sample
        # The other half of the channels is the variance, which DDIM does not use.
        return predicted[:, : latents_bchw.shape[1]].float()

    @torch.no_grad()
    def encode(self, images_b3HW: Tensor) -> Tensor:  # noqa: N803  the shape's own letters
        """Encodes images, -1 to 1, to latents bchw: Kandinsky scales them by nothing."""
        self.spend(Cost(vae_encode=len(images_b3HW)))
        return self.vae.encode(images_b3HW)

    @torch.no_grad()
    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Decodes latents to images b3HW, -1 to 1."""
        self.spend(Cost(vae_decode=len(latents_bchw)))
        return self.vae.decode(latents_bchw)


@lru_cache(maxsize=2)
def load_prior_model(checkpoint: Checkpoint) -> PriorModel:
    """Loads the model of a checkpoint; a second call returns the one already loaded."""
    import diffusers

    kind: Any = getattr(diffusers, _PIPELINE)
    files = checkpoint.fetched()
    with quietly():
        pipeline: Any = kind.from_pretrained(
            files.path,
            dtype=torch_dtype(files.dtype),
            variant=files.weights_variant(),
            **files.weight_options(),
        ).to(device())
        add_to_pipeline(pipeline, checkpoint)
    one_call_at_a_time(pipeline.prior_tokenizer)
    encoder = pipeline.prior_image_encoder
    side_px = int(encoder.config.image_size)
    with torch.no_grad():
        nothing = torch.zeros(1, 3, side_px, side_px, device=device(), dtype=encoder.dtype)
        no_image = encoder(nothing).image_embeds.float()
    return PriorModel(
        identity=checkpoint.identity(),
        parts=pipeline,
        vae=Movq(pipeline.movq),
        device=device(),
        no_image_1d=no_image,
    )
