"""Trains on a run's accepted pairs, from the manifest to the optimiser with no export between.

python -m overpaint.jobs.examples.train_on_pairs RUN
"""

import sys
from functools import partial
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import ray.data
import torch
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.runs.folder import RunFolder
from ray import train
from ray.data.expressions import col
from ray.train.torch import TorchTrainer

SIDE_PX, NUM_WORDS, NUM_IDS = 64, 16, 4096


def decoded(rows: Any, run: str) -> dict[str, np.ndarray]:
    """Decodes pairs: source and edited, float32 BCHW from -1 to 1, and words, int64 BL."""
    images: Any = RunImages(RunFolder.at(run))
    made: dict[str, Any] = {"source": [], "edited": [], "words": []}
    for row in rows.to_pylist():
        for name in ("source", "edited"):
            small = images.open(row, f"{name}_image").image().resize((SIDE_PX, SIDE_PX))
            made[name].append(np.asarray(small, np.float32).transpose(2, 0, 1) / 127.5 - 1)
        ids = [crc32(word.encode()) % NUM_IDS for word in row["instruction"].split()]
        made["words"].append((ids + [0] * NUM_WORDS)[:NUM_WORDS])
    return {name: np.stack(column) for name, column in made.items()}


def pairs(run: str) -> ray.data.Dataset:
    """Returns the stream of a finished run's accepted pairs; it is read while it is used."""
    accepted = ray.data.read_parquet(f"{run}/manifest").filter(expr=col("status") == "accepted")
    return accepted.map_batches(partial(decoded, run=run), batch_size=16, batch_format="pyarrow")


def loop(config: dict[str, Any]) -> list[float]:
    """Takes steps on a worker's share, returns losses; a convolution stands for an editor."""
    heard, seen = torch.nn.EmbeddingBag(NUM_IDS, 3), torch.nn.Conv2d(3, 3, 3, padding=1)
    optimiser, losses = torch.optim.SGD([*heard.parameters(), *seen.parameters()]), list[float]()
    share: Any = train.get_dataset_shard("train")
    for batch in islice(share.iter_torch_batches(batch_size=4), config["steps"]):
        made = seen(batch["source"]) + heard(batch["words"])[:, :, None, None]
        loss = torch.nn.functional.mse_loss(made, batch["edited"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    given: Any = {"train_loop_config": {"steps": 2}, "datasets": {"train": pairs(sys.argv[1])}}
    print(TorchTrainer(loop, **given).fit().return_value)
