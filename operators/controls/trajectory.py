"""Trajectories: a batch of sources walked back to noise, as `edit` reads them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inversion import InvertedPath
from overpaint.pipeline import columns as c

if TYPE_CHECKING:
    from overpaint.operators.diffusion.sampling import Predictor, Solver


def invert_to_paths(
    batch: Batch, predictor: "Predictor", solve: "Solver"
) -> list[Mapping[str, Any]]:
    """Inverts a batch by DDIM; returns the column of inverted paths for each row.

    Args:
        batch: requests whose prompts are source prompts.
        predictor: predicts under the source prompts.
        solve: solver of each step.
    """
    import torch
    from overpaint.operators.diffusion.sampling import ddim_inversion

    latents = ddim_inversion(batch.source_latents, batch.schedule, predictor, solve)
    return [
        {
            c.INVERTED_PATH.name: InvertedPath(
                **header, trajectory_schw=torch.stack([level[index] for level in latents])
            )
        }
        for index, header in enumerate(headers(batch))
    ]


def headers(batch: Batch) -> list[dict[str, Any]]:
    """Returns what all kinds of inversion say of each row: the fields of `Inverted`."""
    return [
        {
            "checkpoint": batch.model.checkpoint,
            "identity": batch.model.identity,
            "frame": request.frame,
            "prompt": request.prompt,
            "num_inference_steps": len(batch.schedule.steps),
        }
        for request in batch.requests
    ]
