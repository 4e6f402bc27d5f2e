"""A flow-matching transformer as the core's loop calls it.

The loop's latents are a flow's, scaled as `operators.diffusion.schedule` says; here they are scaled
back. Prompts are embedded once an actor and pictures encoded once, as of every pipeline.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.flow_nets import FlowNet, flow_net
from overpaint.operators.diffusion.pipeline_model import (
    PipelineModel,
    PipelineUse,
    load_pipeline,
)
from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
from overpaint.operators.diffusion.schedule import Schedule, Step, flow_schedule, sigma_of
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class FlowModel:
    """A loaded flow-matching transformer.

    Attributes:
        loaded: its pipeline, which counts what is spent.
        net: its parts behind one face.
    """

    loaded: PipelineModel
    net: FlowNet

    @property
    def identity(self) -> str:
        """Revision or digest of the exact weights."""
        return self.loaded.identity

    @property
    def pipeline(self) -> Any:
        """The pipeline that it was loaded with."""
        return self.loaded.pipeline

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.loaded.device

    @property
    def resolution_px(self) -> int:
        """Side of the square pictures that it was trained on."""
        return self.loaded.resolution_px

    @property
    def multiple_px(self) -> int:
        """Number that the sides of a picture are multiples of."""
        return self.loaded.multiple_px

    @property
    def spent(self) -> Cost:
        """Network evaluations so far, over all rows."""
        return self.loaded.spent

    @property
    def oom_fallbacks(self) -> tuple[str, ...]:
        """Ways in which memory was freed that can change the last digit."""
        return self.loaded.oom_fallbacks

    @property
    def prompts(self) -> Any:
        """Embeddings of the latest prompts."""
        return self.loaded.prompts

    @property
    def sources(self) -> Any:
        """Latents of the latest pictures."""
        return self.loaded.sources

    def text_length(self, text: str) -> TextLength:
        """Returns the length of a text for the text encoder that carries it."""
        return self.net.text_length(text)

    def schedule(self, num_inference_steps: int, size_px: tuple[int, ...]) -> Schedule:
        """Returns the steps of a run, by the number of packs in a picture."""
        height_px, width_px = size_px
        num_tokens = (height_px // self.multiple_px) * (width_px // self.multiple_px)
        config = self.loaded.pipeline.scheduler.config
        mu = self.net.shift(num_tokens, num_inference_steps)
        return flow_schedule(config, num_inference_steps, mu)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], guidance_scale: float) -> PromptEmbeds:
        """Embeds prompts alone, padded to the longest of them by what no network sees."""
        rows = [self.net.embed(prompt) for prompt in prompts]
        lengths = tuple(row.tokens_bsd.shape[1] for row in rows)
        padded = [
            torch.nn.functional.pad(row.tokens_bsd, (0, 0, 0, max(lengths) - length))
            for row, length in zip(rows, lengths, strict=True)
        ]
        pooled = [row.pooled_bp for row in rows if row.pooled_bp is not None]
        return PromptEmbeds(
            torch.cat(padded), torch.cat(pooled) if pooled else None, lengths, guidance_scale
        )

    @torch.no_grad()
    def velocity(self, latents_bchw: Tensor, sigma: float, prompts: PromptEmbeds) -> Tensor:
        """Returns the velocities bchw, float32, of a flow's latents at its level."""
        size, packed = self.net.size(latents_bchw), self.net.pack(latents_bchw)
        each = [range(len(packed))] if self.net.shares_calls else [[i] for i in range(len(packed))]
        made = [self._called(packed, list(rows), size, sigma, prompts) for rows in each]
        return self.net.unpack(torch.cat(made).float(), size)

    def _called(
        self,
        packed_bnd: Tensor,
        rows: list[int],
        size: tuple[int, int],
        sigma: float,
        prompts: PromptEmbeds,
    ) -> Tensor:
        """Calls the transformer for some rows, whose prompts have one length."""
        net, dtype = self.net, self.net.transformer.dtype
        length = None if prompts.lengths is None else prompts.lengths[rows[0]]
        # diffusers rounds timesteps, 0 to 1000, to the number type of the latents.
        timestep = torch.full([len(rows)], 1000 * sigma, device=self.device).to(dtype) / 1000
        scale = torch.full([len(rows)], prompts.guidance_scale, device=self.device)
        pooled = prompts.pooled_bp
        given = {
            "timestep": timestep,
            "guidance": scale if net.is_guided else None,
            "encoder_hidden_states": prompts.tokens_bsd[rows, :length].to(dtype),
            "pooled_projections": None if pooled is None else pooled[rows].to(dtype),
        }
        return net.velocity(packed_bnd[rows].to(dtype), size, given)

    def evaluate(
        self,
        inputs_bchw: Tensor,
        step: Step,
        branches: tuple[str, ...],
        prompts: Sequence[PromptEmbeds],
        labels: Sequence[int | Sequence[int]],
        attention: AttentionEdits,
    ) -> Tensor:
        """Predicts for all branches, one call each, see `LatentModel.evaluate`.

        Raises:
            ValueError: attention is to be edited, which a transformer's is not.
        """
        del labels
        if any(attention):
            raise ValueError("attention of a flow-matching transformer is not edited")
        parts = inputs_bchw.chunk(len(branches))
        shrink = 1.0 / (step.alpha_bar**0.5 + (1.0 - step.alpha_bar) ** 0.5)
        sigma = sigma_of(step.alpha_bar)
        given = zip(parts, prompts, strict=True)
        return torch.cat([self.velocity(shrink * part, sigma, own) for part, own in given])

    @torch.no_grad()
    def encode(self, images_b3HW: Tensor) -> Tensor:  # noqa: N803  the shape's own letters
        """Encodes images, -1 to 1, to latents bchw, float32."""
        return self.net.encode(images_b3HW)

    @torch.no_grad()
    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Decodes latents to images b3HW, about -1 to 1."""
        return self.net.decode(latents_bchw)


@lru_cache(maxsize=4)
def load_flow_model(checkpoint: Checkpoint, kinds: tuple[str, ...]) -> FlowModel:
    """Loads the model of a checkpoint; a second call returns the one already loaded.

    Args:
        checkpoint: weights.
        kinds: diffusers' pipeline classes that it may be of.

    Raises:
        ValueError: it is of another class.
    """
    loaded = load_pipeline(checkpoint, PipelineUse(kinds=kinds, resolution_px=1024))
    return FlowModel(loaded=loaded, net=flow_net(loaded.pipeline))
