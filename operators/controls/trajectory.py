"""Trajectories: a batch of sources walked back to noise, as `edit` reads them."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inversion import InvertedPath
from overpaint.pipeline import columns as c


def invert_to_paths(batch: Batch, num_fixed_point_iterations: int = 0) -> list[Mapping[str, Any]]:
    """Inverts a batch by DDIM; returns the column of inverted paths for each row.

    Args:
        batch: requests whose prompts are source prompts.
        num_fixed_point_iterations: further network evaluations for each step.
    """
    import torch
    from overpaint.operators.diffusion.sampling import ddim_inversion

    prompts = batch.prompts([request.prompt for request in batch.requests])
    latents = ddim_inversion(
        batch.model, batch.source_latents, batch.schedule, prompts, num_fixed_point_iterations
    )
    return [
        {
            c.INVERTED_PATH.name: InvertedPath(
                checkpoint=batch.model.checkpoint,
                identity=batch.model.identity,
                frame=request.frame,
                prompt=request.prompt,
                num_inference_steps=len(latents) - 1,
                trajectory_schw=torch.stack([level[index] for level in latents]),
            )
        }
        for index, request in enumerate(batch.requests)
    ]
