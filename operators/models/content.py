"""Contents of values: what is equal for equal ones, and how much memory they take."""

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

_PLAIN = (str, int, float, bool, type(None))
_NAMED = (torch.dtype, torch.device)


def content_key(value: Any) -> Hashable:
    """Returns a value that is equal for equal contents.

    Args:
        value: text, number, picture, array or tensor, or lists and dictionaries of those.

    Raises:
        TypeError: the value is of another kind.
    """
    if isinstance(value, _PLAIN):
        return type(value).__name__, value
    if isinstance(value, _NAMED):
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(content_key(part) for part in value)
    if isinstance(value, Mapping):
        return tuple((name, content_key(part)) for name, part in sorted(value.items()))
    if isinstance(value, Image.Image):
        return "picture", value.mode, value.size, _digest(value.tobytes())
    if isinstance(value, np.ndarray):
        return "array", value.shape, str(value.dtype), _digest(value.tobytes())
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return "tensor", tuple(value.shape), str(value.dtype), _digest(data.tobytes())
    raise TypeError(f"a {type(value).__name__} has no content key")


def num_bytes(value: Any) -> int:
    """Returns the bytes of the tensors in a value, its parts and its attributes."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, (_PLAIN, _NAMED)):
        return 0
    if isinstance(value, Mapping):
        return sum(num_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(num_bytes(part) for part in value)
    return sum(num_bytes(part) for part in getattr(value, "__dict__", {}).values())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
