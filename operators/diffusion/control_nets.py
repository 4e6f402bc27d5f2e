"""ControlNets (arXiv 2302.05543) beside a UNet: what a picture of each row adds to its blocks.

Shapes: b rows, c channels, h and w latent pixels, H and W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.operators.models.pretrained import device, torch_dtype
from overpaint.operators.models.weights import Checkpoint
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Control:
    """A loaded ControlNet.

    Attributes:
        net: diffusers' ControlNetModel.
        condition: name of the condition whose picture it reads.
        scale: factor of what it adds.
    """

    net: Any
    condition: str
    scale: float


def load_controls(checkpoint: Checkpoint) -> tuple[Control, ...]:
    """Loads the ControlNets among the adapters of a checkpoint.

    Raises:
        ValueError: one is of another class.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel

    controls: list[Control] = []
    for adapter in checkpoint.adapters:
        if adapter.kind != "controlnet" or (condition := adapter.reads) is None:
            continue
        kind = ControlNetModel.load_config(adapter.fetched).get("_class_name")  # pyright: ignore
        if kind != "ControlNetModel":
            raise ValueError(f"adapters.checkpoint = {adapter.fetched}: a {kind} is no ControlNet")
        net: Any = ControlNetModel.from_pretrained(
            adapter.fetched, torch_dtype=torch_dtype(checkpoint.dtype), use_safetensors=True
        )
        net = net.to(device()).eval().requires_grad_(False)
        controls.append(Control(net, condition.name, adapter.scale))
    return tuple(controls)


def residuals(
    controls: Sequence[Control],
    pictures_b3HW: Sequence[Tensor],  # noqa: N803  the shape's own letters
    inputs_bchw: Tensor,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what ControlNets add to the blocks of a UNet, as its arguments.

    Args:
        controls: ControlNets.
        pictures_b3HW: the rows' pictures for each, 0 to 1.
        inputs_bchw: inputs of the rows of all branches, of which each net takes its channels.
        given: timestep, prompts and further inputs that the UNet is called with.
    """
    sums: list[Tensor] = []
    for control, pictures in zip(controls, pictures_b3HW, strict=True):
        net = control.net
        down, middle = net(
            inputs_bchw[:, : net.config.in_channels],
            controlnet_cond=pictures.to(inputs_bchw).repeat(
                len(inputs_bchw) // len(pictures), 1, 1, 1
            ),
            conditioning_scale=control.scale,
            return_dict=False,
            **given,
        )
        own = [*down, middle]
        sums = own if not sums else [a + b for a, b in zip(sums, own, strict=True)]
    return {
        "down_block_additional_residuals": tuple(sums[:-1]),
        "mid_block_additional_residual": sums[-1],
    }
