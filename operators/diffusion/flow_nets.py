"""The flow-matching transformers of diffusers, one class for each kind, behind one face.

A transformer sees latents in packs of 2 x 2. It predicts the velocity of a flow: noise less source.

Shapes: b rows, n tokens of a picture, s tokens of a prompt, c latent channels, h and w latent
pixels, d channels, H and W pixels.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
from overpaint.operators.models.tokenizing import TextLength, text_length
from torch import Tensor
from torch.nn import functional


class FlowNet(ABC):
    """A transformer, its VAE and its text encoders.

    Args:
        pipeline: diffusers' pipeline that has them.
    """

    classes: ClassVar[tuple[str, ...]]
    """Diffusers' pipeline classes that it is read from."""
    shares_calls: ClassVar[bool] = True
    """Whether all rows of a batch share a call: their prompts have one length."""
    has_packed_latents: ClassVar[bool] = False
    """Whether a latent pixel is a whole pack."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.transformer = pipeline.transformer
        self.vae = pipeline.vae

    @abstractmethod
    def embed(self, prompt: str) -> PromptEmbeds:
        """Embeds a prompt alone."""

    @abstractmethod
    def velocity(self, packed_bnd: Tensor, size: tuple[int, int], given: dict[str, Any]) -> Tensor:
        """Calls the transformer for rows of one length of prompts; returns velocities bnd.

        Args:
            packed_bnd: latents.
            size: packs along the height and along the width.
            given: `timestep`, `guidance`, `encoder_hidden_states` and `pooled_projections`.
        """

    def encode(self, images_b3HW: Tensor) -> Tensor:  # noqa: N803  the shape's own letters
        """Encodes images, -1 to 1, to latents bchw: the mode of the posterior."""
        latents = self.vae.encode(images_b3HW.to(self.vae.dtype)).latent_dist.mode().float()
        return (latents - self._shift_factor) * float(self.vae.config.scaling_factor)

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Decodes latents to images b3HW, about -1 to 1."""
        latents = latents_bchw / float(self.vae.config.scaling_factor) + self._shift_factor
        return self.vae.decode(latents.to(self.vae.dtype)).sample

    def shift(self, num_tokens: int, num_inference_steps: int) -> float:
        """Returns the shift of the noise levels, by the number of packs; as diffusers has it."""
        del num_inference_steps
        known = self.pipeline.scheduler.config
        least, most = known.get("base_image_seq_len", 256), known.get("max_image_seq_len", 4096)
        low, high = known.get("base_shift", 0.5), known.get("max_shift", 1.15)
        return low + (high - low) / (most - least) * (num_tokens - least)

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text for the text encoder."""
        return text_length(self.pipeline.tokenizer_2, text, 512)

    def combine(self, text_bnd: Tensor, negative_bnd: Tensor, scale: float) -> Tensor:
        """Returns the velocities bnd of true classifier-free guidance."""
        return negative_bnd + scale * (text_bnd - negative_bnd)

    def pack(self, latents_bchw: Tensor) -> Tensor:
        """Returns the packs of latents, bnd, row by row of the picture."""
        if not self.has_packed_latents:
            latents_bchw = functional.pixel_unshuffle(latents_bchw, 2)
        return latents_bchw.flatten(2).transpose(1, 2)

    def unpack(self, packed_bnd: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the latents bchw of packs."""
        latents = packed_bnd.transpose(1, 2).unflatten(2, size)
        return latents if self.has_packed_latents else functional.pixel_shuffle(latents, 2)

    def size(self, latents_bchw: Tensor) -> tuple[int, int]:
        """Returns the packs along the height and along the width of latents."""
        side = 1 if self.has_packed_latents else 2
        height, width = latents_bchw.shape[2:]
        return height // side, width // side

    @property
    def is_guided(self) -> bool:
        """True where a guidance is distilled into the transformer, which then asks its scale."""
        return bool(self.transformer.config.get("guidance_embeds", False))

    @property
    def _shift_factor(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)


class Flux(FlowNet):
    """FLUX.1 (and its schnell form), with prompts of 512 tokens."""

    classes = ("FluxPipeline",)

    def embed(self, prompt: str) -> PromptEmbeds:
        """Embeds a prompt by T5, and pooled by CLIP."""
        return PromptEmbeds(*self.pipeline.encode_prompt(prompt=[prompt], prompt_2=None)[:2])

    def velocity(self, packed_bnd: Tensor, size: tuple[int, int], given: dict[str, Any]) -> Tensor:
        """Calls the transformer with the places of packs."""
        where: dict[str, Any] = {"device": packed_bnd.device, "dtype": packed_bnd.dtype}
        num_words = given["encoder_hidden_states"].shape[1]
        return self.transformer(
            hidden_states=packed_bnd,
            txt_ids=torch.zeros(num_words, 3, **where),
            img_ids=self.pipeline._prepare_latent_image_ids(1, *size, **where),
            return_dict=False,
            **given,
        )[0]


class Flux2(FlowNet):
    """FLUX.2 klein, whose latents are packs, normalised as its VAE says."""

    classes = ("Flux2KleinPipeline",)
    has_packed_latents = True

    def embed(self, prompt: str) -> PromptEmbeds:
        """Embeds a prompt, padded to the text encoder's length."""
        return PromptEmbeds(self.pipeline.encode_prompt(prompt=[prompt])[0])

    def velocity(self, packed_bnd: Tensor, size: tuple[int, int], given: dict[str, Any]) -> Tensor:
        """Calls the transformer with the places of packs."""
        given = {name: value for name, value in given.items() if name != "pooled_projections"}
        places = self.pipeline._prepare_latent_ids(packed_bnd.new_empty(len(packed_bnd), 1, *size))
        words = self.pipeline._prepare_text_ids(given["encoder_hidden_states"])
        return self.transformer(
            hidden_states=packed_bnd,
            txt_ids=words.to(packed_bnd.device),
            img_ids=places.to(packed_bnd.device),
            return_dict=False,
            **given,
        )[0]

    def encode(self, images_b3HW: Tensor) -> Tensor:  # noqa: N803
        """Encodes images, -1 to 1, to packed and normalised latents."""
        latents = self.vae.encode(images_b3HW.to(self.vae.dtype)).latent_dist.mode().float()
        mean, spread = self._norm
        return (self.pipeline._patchify_latents(latents) - mean) / spread

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Decodes latents to images b3HW, about -1 to 1."""
        mean, spread = self._norm
        latents = self.pipeline._unpatchify_latents(latents_bchw * spread + mean)
        return self.vae.decode(latents.to(self.vae.dtype)).sample

    @property
    def _norm(self) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn
        spread = torch.sqrt(norm.running_var.float() + self.vae.config.batch_norm_eps)
        return norm.running_mean.float().view(1, -1, 1, 1), spread.view(1, -1, 1, 1)

    def shift(self, num_tokens: int, num_inference_steps: int) -> float:
        """Returns the shift that was fitted for FLUX.2, by packs and steps."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(num_tokens, num_inference_steps)

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text in the chat template that the text encoder reads."""
        tokenizer = self.pipeline.tokenizer
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return text_length(tokenizer, whole, self.pipeline.tokenizer_max_length)


class QwenImage(FlowNet):
    """Qwen-Image, whose prompts have lengths of their own: each row is a call."""

    classes = ("QwenImagePipeline",)
    shares_calls = False

    def embed(self, prompt: str) -> PromptEmbeds:
        """Embeds a prompt in as many tokens as it has."""
        return PromptEmbeds(self.pipeline.encode_prompt(prompt=[prompt])[0])

    def velocity(self, packed_bnd: Tensor, size: tuple[int, int], given: dict[str, Any]) -> Tensor:
        """Calls the transformer; all tokens of a prompt are seen."""
        given = {name: value for name, value in given.items() if name != "pooled_projections"}
        return self.transformer(
            hidden_states=packed_bnd,
            encoder_hidden_states_mask=None,
            img_shapes=[[(1, *size)]] * len(packed_bnd),
            return_dict=False,
            **given,
        )[0]

    def encode(self, images_b3HW: Tensor) -> Tensor:  # noqa: N803
        """Encodes images, -1 to 1, to normalised latents of one frame."""
        frames = images_b3HW.to(self.vae.dtype)[:, :, None]
        mean, spread = self._norm(images_b3HW)
        return (self.vae.encode(frames).latent_dist.mode().float()[:, :, 0] - mean) / spread

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Decodes latents to images b3HW, about -1 to 1."""
        mean, spread = self._norm(latents_bchw)
        latents = (latents_bchw * spread + mean).to(self.vae.dtype)
        return self.vae.decode(latents[:, :, None], return_dict=False)[0][:, :, 0]

    def _norm(self, like: Tensor) -> tuple[Tensor, Tensor]:
        known = self.vae.config
        mean, spread = (
            torch.tensor(values, device=like.device).view(1, -1, 1, 1)
            for values in (known.latents_mean, known.latents_std)
        )
        return mean, spread

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text in the template that the text encoder reads."""
        pipeline = self.pipeline
        limit = pipeline.tokenizer_max_length + pipeline.prompt_template_encode_start_idx
        whole = pipeline.prompt_template_encode.format(text)
        return text_length(pipeline.tokenizer, whole, limit)

    def combine(self, text_bnd: Tensor, negative_bnd: Tensor, scale: float) -> Tensor:
        """Returns guided velocities as long, in each pack, as those of the text alone."""
        guided = super().combine(text_bnd, negative_bnd, scale)
        lengths = (part.norm(dim=-1, keepdim=True) for part in (text_bnd, guided))
        wanted, found = lengths
        return guided * (wanted / found)


def flow_net(pipeline: Any) -> FlowNet:
    """Returns the transformer of a pipeline.

    Raises:
        ValueError: the pipeline is of another class.
    """
    name = type(pipeline).__name__
    kinds: list[type[FlowNet]] = [Flux, Flux2, QwenImage]
    for kind in kinds:
        if name in kind.classes:
            return kind(pipeline)
    raise ValueError(f"a {name} is no flow-matching transformer that is known")
