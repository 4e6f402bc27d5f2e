"""Methods on flow-matching transformers: FLUX.1, FLUX.2 klein and Qwen-Image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.flow_batch import FlowBatch
from overpaint.operators.diffusion.method import Editor, LatentMethod
from overpaint.operators.diffusion.pipeline_call import ONE_MEGAPIXEL
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.operators.models.weights import Checkpoint
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompt_embeds import PromptEmbeds
    from torch import Tensor

FLOW_CLASSES = ("FluxPipeline", "Flux2KleinPipeline", "QwenImagePipeline")
"""Pipelines whose checkpoints are flow-matching transformers that the core calls."""


class FlowMethod(LatentMethod):
    """A method on a flow-matching transformer; brings the fields of guidance, and branches."""

    checkpoints = FLOW_CLASSES
    takes_adapters = ("lora",)
    papercut = None
    shapes = ONE_MEGAPIXEL

    num_inference_steps: int = Field(default=28, ge=1, le=1000)
    """Denoising steps from noise to picture; distilled weights take 4."""
    guidance_scale: float = Field(default=3.5, ge=0, le=100)
    """Scale of the guidance that is distilled into FLUX.1 dev, at no cost; other weights have
    none."""
    true_cfg_scale: float = Field(default=1.0, ge=0, le=100)
    """Scale of true classifier-free guidance; at most 1 is unguided. 4 for Qwen-Image."""
    negative_prompt: str = " "
    """Negative prompt for true classifier-free guidance."""

    def branches(self) -> Mapping[str, Window]:
        """Returns `text`, and `negative` where there is true guidance."""
        text = {"text": ALL_STEPS}
        return {**text, "negative": ALL_STEPS} if self.true_cfg_scale > 1.0 else text

    def load(self, checkpoint: Checkpoint) -> Editor:
        """Loads the model, shared with every method of the actor that uses the checkpoint."""
        from overpaint.operators.diffusion.flow_model import load_flow_model

        return load_flow_model(checkpoint, self.checkpoints)

    def free_memory(self, model: Any, *, exact: bool) -> str | None:
        """Offloads the pipeline's parts; where bytes may change, slices its VAE."""
        return model.loaded.free_memory(exact=exact)

    def edit(self, requests: Sequence[EditRequest], model: Any) -> list[NDArray[np.float32]]:
        """Edits the batch as `edited` says, and decodes it."""
        steps: int = self.num_inference_steps
        batch = FlowBatch(
            requests,
            model,
            num_inference_steps=steps,
            walked=self.walked,
            guidance_scale=self.guidance_scale,
        )
        return batch.decode(self.edited(batch))

    def edited(self, batch: Batch) -> "Tensor":
        """Returns the clean latents bchw of the edits, by the core's loop with true guidance."""
        assert isinstance(batch, FlowBatch)
        guided = replace(
            self.sampling(batch),
            guidance=batch.guidance(self.true_cfg_scale),
            negative_prompt=self.negative_prompt,
        )
        return batch.run(self.branches(), guided)

    def branch_prompts(self, batch: FlowBatch) -> "dict[str, PromptEmbeds]":
        """Returns the embedded prompts of the branches, for a loop of its own."""
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        if "negative" in self.branches():
            prompts["negative"] = batch.negative_prompts(self.negative_prompt)
        return prompts
