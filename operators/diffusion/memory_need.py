"""Memory that an operator's model needs on a GPU, estimated without loading it.

Weights are counted from the headers of their files. What a call holds at its peak beside them is
counted on networks without weights, see `meta_networks`, with attention that keeps no matrix, as
GPUs compute it; where a method walks back through a network, all that the call has made. Networks
that are not known so are taken to hold a quarter of their weights.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from overpaint.operators.diffusion.flops import local_folder
from overpaint.operators.diffusion.meta_networks import Sight, network_calls
from overpaint.operators.models.weights import Checkpoint

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_UNKNOWN_SHARE = 0.25
_HEADER_BYTES = 8
"""Length of the number in front of a safetensors header, which is the header's own length."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory of one model.

    Attributes:
        weights: bytes of the weights, in the number type in which they are used.
        activations: bytes of what a call holds at its peak beside them.
    """

    weights: int
    activations: int


def memory_need(
    checkpoint: Checkpoint, sight: Sight, *, num_rows: int, num_branches: int, goes_back: bool
) -> MemoryNeed | None:
    """Estimates the memory of a checkpoint's networks.

    Args:
        checkpoint: weights, and the number type in which they are used.
        sight: pictures that they see.
        num_rows: rows in a call.
        num_branches: predictions of a step, which share a call.
        goes_back: whether a call is walked back through.

    Returns:
        The need; None where the checkpoint is not on this machine.
    """
    folder = local_folder(checkpoint)
    if folder is None or not folder.is_dir():
        return None
    size = _BYTES[checkpoint.dtype]
    weights = num_parameters(folder, checkpoint.weights_variant()) * size
    held = _held(folder, sight, goes_back)
    if not held:
        return MemoryNeed(weights, round(weights * _UNKNOWN_SHARE))
    rows = {kind: num_rows * (num_branches if kind == "forward" else 1) for kind in held}
    most = max(held[kind] * rows[kind] for kind in held)
    return MemoryNeed(weights, round(most * size / _BYTES["float32"]))


def num_parameters(folder: Path, variant: str | None) -> int:
    """Counts the numbers in the safetensors of a folder, from their headers.

    Args:
        folder: folder of a pipeline or of a network.
        variant: the variant that is read; None for files without one.
    """
    headers = (_header(file) for file in _files(folder, variant))
    tensors = (tensor for header in headers for tensor in header.values() if "shape" in tensor)
    return sum(prod(tensor["shape"]) for tensor in tensors)


def _files(folder: Path, variant: str | None) -> Iterator[Path]:
    found = [path for path in folder.rglob("*.safetensors") if len(_parts(path, folder)) <= 2]
    for path in sorted(found):
        # model.safetensors has no variant; model.fp16.safetensors and its shards have one.
        names = path.name.split(".")
        if (names[1].split("-")[0] if len(names) > 2 else None) == variant:
            yield path


def _parts(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def _header(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER_BYTES), "little")
        return json.loads(opened.read(length))


@lru_cache(maxsize=32)
def _held(folder: Path, sight: Sight, goes_back: bool) -> Mapping[str, int]:
    """Returns the bytes that a call for one row holds, by its kind, in float32."""
    from overpaint.operators.diffusion.tensor_memory import TensorMemory

    found: dict[str, int] = {}
    for kind, call in network_calls(folder, sight).items():
        with TensorMemory() as memory:
            call()
        found[kind] = memory.total if goes_back and kind != "text" else memory.peak
    return found
