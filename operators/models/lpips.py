"""LPIPS 0.1: a learned perceptual distance of two pictures (Zhang et al., arXiv 1801.03924).

The networks are those of the authors' package `lpips` (AlexNet, VGG16, SqueezeNet 1.1 with linear
weights on five to seven layers), run here by torch alone on the state that the package saves:

    weights = lpips.LPIPS(net="alex").state_dict()
    safetensors.torch.save_file({k: v.clone() for k, v in weights.items()}, "model.safetensors")

beside a `config.json` with `{"net": "alex"}`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from overpaint.operators.models.pretrained import device
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.errors import near_miss

if TYPE_CHECKING:
    import torch

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10
LEAST_SIDE_PX = 32
"""Shorter side below which the deepest layers see nothing."""


class _Conv(NamedTuple):
    """A convolution with ReLU.

    Attributes:
        name: name of its weights in the state.
        stride: step, px.
        padding: zeros around, px.
    """

    name: str
    stride: int = 1
    padding: int = 1


class _Pool(NamedTuple):
    """Maxima of windows, every 2 px.

    Attributes:
        size: side of a window, px.
        ceil: whether windows may reach over the edge.
    """

    size: int
    ceil: bool = False


class _Fire(NamedTuple):
    """A fire module of SqueezeNet: a squeeze, and two expansions side by side.

    Attributes:
        name: name of its weights in the state.
    """

    name: str


_Block = tuple[_Conv | _Pool | _Fire, ...]
_CEIL = _Pool(3, ceil=True)
_NETS: Mapping[str, tuple[_Block, ...]] = {
    "alex": (
        (_Conv("slice1.0", 4, 2),),
        (_Pool(3), _Conv("slice2.3", 1, 2)),
        (_Pool(3), _Conv("slice3.6")),
        (_Conv("slice4.8"),),
        (_Conv("slice5.10"),),
    ),
    "vgg": (
        (_Conv("slice1.0"), _Conv("slice1.2")),
        (_Pool(2), _Conv("slice2.5"), _Conv("slice2.7")),
        (_Pool(2), _Conv("slice3.10"), _Conv("slice3.12"), _Conv("slice3.14")),
        (_Pool(2), _Conv("slice4.17"), _Conv("slice4.19"), _Conv("slice4.21")),
        (_Pool(2), _Conv("slice5.24"), _Conv("slice5.26"), _Conv("slice5.28")),
    ),
    "squeeze": (
        (_Conv("slice1.0", 2, 0),),
        (_CEIL, _Fire("slice2.3"), _Fire("slice2.4")),
        (_CEIL, _Fire("slice3.6"), _Fire("slice3.7")),
        (_CEIL, _Fire("slice4.9")),
        (_Fire("slice5.10"),),
        (_Fire("slice6.11"),),
        (_Fire("slice7.12"),),
    ),
}


@dataclass(frozen=True, slots=True)
class Lpips:
    """A network with its linear weights, on this actor's device.

    Attributes:
        net: alex, vgg or squeeze.
        state: weights by the package's names.
        device: where they are.
    """

    net: str
    state: Mapping[str, "torch.Tensor"]
    device: "torch.device"

    def distance(self, one: Any, other: Any) -> float:
        """Returns the distance of two pictures, 0 and up.

        Args:
            one: RGB HWC, 0 to 1.
            other: RGB HWC of the same size.
        """
        import torch

        with torch.inference_mode():
            layers = zip(self._features(one), self._features(other), strict=True)
            total = sum(
                float((self._linear(place) * (a - b).square()).sum(dim=1).mean())
                for place, (a, b) in enumerate(layers)
            )
        return float(total)

    def _features(self, picture: Any) -> "list[torch.Tensor]":
        """Returns the activations of each block, 1CHW, each place of length 1."""
        import torch

        shift, scale = (torch.tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        pixels = torch.as_tensor(picture, dtype=torch.float32).permute(2, 0, 1)
        here = ((2 * pixels - 1 - shift) / scale)[None].to(self.device)
        features: list[torch.Tensor] = []
        for block in _NETS[self.net]:
            for part in block:
                here = self._run(part, here)
            length = here.square().sum(dim=1, keepdim=True).sqrt()
            features.append(here / (length + _EPSILON))
        return features

    def _run(self, part: _Conv | _Pool | _Fire, here: "torch.Tensor") -> "torch.Tensor":
        import torch
        from torch.nn import functional

        if isinstance(part, _Pool):
            return functional.max_pool2d(here, part.size, 2, ceil_mode=part.ceil)
        if isinstance(part, _Conv):
            return self._convolved(here, part.name, part.stride, part.padding)
        squeezed = self._convolved(here, f"{part.name}.squeeze", 1, 0)
        narrow = self._convolved(squeezed, f"{part.name}.expand1x1", 1, 0)
        wide = self._convolved(squeezed, f"{part.name}.expand3x3", 1, 1)
        return torch.cat([narrow, wide], dim=1)

    def _convolved(
        self, here: "torch.Tensor", name: str, stride: int, padding: int
    ) -> "torch.Tensor":
        from torch.nn import functional

        weight, bias = (self.state[f"net.{name}.{kind}"] for kind in ("weight", "bias"))
        return functional.conv2d(here, weight, bias, stride, padding).relu()

    def _linear(self, place: int) -> "torch.Tensor":
        return self.state[f"lin{place}.model.1.weight"]


def check_folder(checkpoint: Checkpoint) -> None:
    """Checks that a folder holds LPIPS weights.

    Raises:
        ValueError: it does not; one sentence.
    """
    if checkpoint.is_on_hub:
        raise ValueError(
            f"{checkpoint.field} = {checkpoint.name!r}: LPIPS weights are read from a folder with "
            "config.json and model.safetensors, not from the hub"
        )
    checkpoint.check()
    net_of(checkpoint)


def net_of(checkpoint: Checkpoint) -> str:
    """Returns the network that a folder names.

    Raises:
        ValueError: it names none that is known.
    """
    config = json.loads((Path(checkpoint.path) / "config.json").read_text(encoding="utf-8"))
    net = config.get("net")
    if net not in _NETS:
        raise ValueError(
            f"{checkpoint.field} = {checkpoint.name!r}: net = {net!r} in its config.json: "
            f"{near_miss(str(net), sorted(_NETS))}"
        )
    return str(net)


def load(checkpoint: Checkpoint) -> Lpips:
    """Loads the network and the linear weights of a folder."""
    from safetensors.torch import load_file

    where = device()
    state = load_file(Path(checkpoint.path) / "model.safetensors")
    return Lpips(net_of(checkpoint), {k: v.float().to(where) for k, v in state.items()}, where)
