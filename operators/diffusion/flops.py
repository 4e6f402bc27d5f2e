"""Floating-point operations of one network evaluation, counted on a checkpoint's configurations.

Networks are called without weights, see `meta_networks`, while PyTorch's counter adds up two
operations for each multiplication and addition, attention included. Backward passes count as two
forward ones. A transformer is called with the pictures of its sequence at the size that it was
trained on: a row whose picture has another shape has at most as many pixels. References beside the
source are not counted.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from overpaint.operators.diffusion.meta_networks import NetworkCall, Sight, network_calls
from overpaint.operators.models.weights import Checkpoint

_BACKWARD = 2.0
_BACKWARD_OF = {"forward": "backward", "vae_decode": "vae_backward", "text": "text_backward"}
"""Kind of the backward pass by that of the forward one."""

Flops = Mapping[str, float]
"""Operations of one evaluation, by its kind as `Cost` names it."""


def flops_of(checkpoint: Checkpoint, sight: Sight | None = None) -> Flops:
    """Counts the operations of one evaluation of each kind, at the size of a row.

    Args:
        checkpoint: folder of a diffusers pipeline of a UNet or a transformer, or of a CLIP model.
        sight: pictures that its networks see; None for one of the checkpoint's own size.

    Returns:
        Operations by kind; kinds whose network is not counted, or not here, are absent.
    """
    folder = local_folder(checkpoint)
    return {} if folder is None else _counted(folder, sight or Sight())


def local_folder(checkpoint: Checkpoint) -> Path | None:
    """Returns the folder of a checkpoint, also one that the hub's cache holds; None elsewhere."""
    if checkpoint.is_on_store:
        return None
    if not checkpoint.is_on_hub:
        return Path(checkpoint.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        revision = checkpoint.revision or "main"
        return Path(snapshot_download(checkpoint.name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


@lru_cache(maxsize=32)
def _counted(folder: Path, sight: Sight) -> Flops:
    found = {kind: _count(call) for kind, call in network_calls(folder, sight).items()}
    if "clip" in found:  # as many embeddings are of pictures as of texts
        found["clip"] /= 2
        found["clip_backward"] = _BACKWARD * found["clip"]
    for kind, backward in _BACKWARD_OF.items():
        if kind in found:
            found[backward] = _BACKWARD * found[kind]
    return found


def _count(call: NetworkCall) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        call()
    return float(counter.get_total_flops())
