"""A batch of rows on its way through a method on a flow-matching transformer."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import sigma_of
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from overpaint.operators.diffusion.flow_model import FlowModel
    from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
    from torch import Tensor


class FlowBatch(Batch):
    """A full batch of rows with frames of one size.

    Args:
        requests: rows.
        flow: their model.
        num_inference_steps: steps of the schedule.
        walked: returns the indices of the steps that are walked.
        guidance_scale: scale of a guidance that is distilled into the transformer.
    """

    def __init__(
        self,
        requests: Sequence[EditRequest],
        flow: "FlowModel",
        *,
        num_inference_steps: int,
        walked: Callable[[int], range],
        guidance_scale: float,
    ) -> None:
        self.flow = flow
        self.guidance_scale = guidance_scale
        model: Any = flow  # has what the loop calls
        super().__init__(requests, model, num_inference_steps=num_inference_steps, walked=walked)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The flow's levels before each walked step, and after the last."""
        levels = [step.alpha_bar for step in self.steps]
        return tuple(sigma_of(level) for level in (*levels, self.steps[-1].alpha_bar_next))

    def prompts(
        self, prompts: Sequence[str], guidance_scale: float | None = None
    ) -> "PromptEmbeds":
        """Embeds one prompt for each row, with the scale of the guidance that they have."""
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        return self.flow.embed(prompts, scale)

    def negative_prompts(self, prompt: str) -> "PromptEmbeds":
        """Embeds a negative prompt for every row."""
        return self.prompts([prompt] * len(self.requests))

    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> "Tensor":
        """Encodes pictures of the frames' size to latents bchw."""
        from overpaint.operators.diffusion import latents

        return self.flow.encode(latents.to_tensor(pictures, self.flow.device))

    def decode(self, latents_bchw: "Tensor") -> list[NDArray[np.float32]]:
        """Decodes latents to pictures, RGB float32 HWC."""
        from overpaint.operators.diffusion import latents

        return latents.to_pictures(self.flow.decode(latents_bchw))

    def guided(self, predictions: "Mapping[str, Tensor]", scale: float) -> "Tensor":
        """Returns velocities bchw of true classifier-free guidance, where there is a negative."""
        text, negative = predictions["text"], predictions.get("negative")
        if negative is None:
            return text
        net = self.flow.net
        guided = net.combine(net.pack(text), net.pack(negative), scale)
        return net.unpack(guided, net.size(text))

    def guidance(self, scale: float) -> "Callable[[StepState], Tensor]":
        """Returns true classifier-free guidance of a scale."""
        return lambda state: self.guided(state.predictions, scale)

    def velocities(
        self, prompts: "Mapping[str, PromptEmbeds]", scale: float
    ) -> "Callable[[Tensor, float], Tensor]":
        """Returns the guided velocity bchw as a function of a flow's latents and their level.

        Args:
            prompts: of the branches `text` and, where there is guidance, `negative`.
            scale: scale of true classifier-free guidance.
        """

        def velocity(latents_bchw: "Tensor", sigma: float) -> "Tensor":
            made = {n: self.flow.velocity(latents_bchw, sigma, p) for n, p in prompts.items()}
            return self.guided(made, scale)

        return velocity
