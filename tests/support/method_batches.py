"""Batches of an edit's rows, and the latents that its method makes of them."""

import numpy as np
import torch
from overpaint.operators.diffusion.batch import Batch


def batch_of(edit, rows):
    """The batch of some rows, as an edit gives it to its method."""
    model = edit.load()
    requests = [edit.prepare(row, model).request for row in rows]
    steps = getattr(edit.settings, "num_inference_steps", None)
    return Batch(requests, model[""], num_inference_steps=steps, walked=edit.settings.walked)


def latents_of(edit, batch):
    """The clean latents that a method with the usual loop makes of a batch."""
    settings = edit.settings
    sampling = settings.complete(settings.sampling(batch))
    return batch.run(settings.branches(), sampling)


def guided(said, scale):
    """Classifier-free guidance."""
    return said["negative"] + scale * (said["text"] - said["negative"])


def clean(x, eps, alpha_bar):
    """The clean latents of noisy ones: equation 12 of arXiv 2010.02502, solved for x0."""
    return (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def prompts_of(batch):
    """The prompts of `text` and `negative`."""
    texts = [request.prompt for request in batch.requests]
    return {"text": batch.prompts(texts), "negative": batch.negative_prompts("")}


def averaged(pictures):
    """Pictures HW, 0-255, averaged over latent pixels of 2 by 2, b1hw, 0-1."""
    stacked = torch.from_numpy(np.stack(pictures))[:, None].float() / 255
    return torch.nn.functional.avg_pool2d(stacked, 2)
