"""Kinds of accelerators, by the names that Ray labels nodes with."""

from collections.abc import Mapping

from overpaint.pipeline.errors import near_miss

ACCELERATORS: Mapping[str, float | None] = {
    "V100": 16.0,
    "P100": 16.0,
    "T4": 15.0,
    "P4": 7.5,
    "K80": 11.0,
    "A10G": 22.0,
    "L4": 22.0,
    "L40S": 44.0,
    "A100": 39.0,
    "A100-40G": 39.0,
    "A100-80G": 79.0,
    "H100": 79.0,
    "H200": 139.0,
    "H20": 95.0,
    "B200": 178.0,
    "B300": 267.0,
    "GB200": 184.0,
    "GB300": 276.0,
    "RTX-PRO-6000": 95.0,
    "Intel-GPU-Max-1550": None,
    "Intel-GPU-Max-1100": None,
    "Intel-GAUDI": None,
    "AMD-Instinct-MI100": None,
    "AMD-Instinct-MI250X": None,
    "AMD-Instinct-MI250X-MI250": None,
    "AMD-Instinct-MI210": None,
    "AMD-Instinct-MI300A": None,
    "AMD-Instinct-MI300X-OAM": None,
    "AMD-Instinct-MI300X-HF": None,
    "AMD-Instinct-MI308X": None,
    "AMD-Instinct-MI325X-OAM": None,
    "AMD-Instinct-MI350X-OAM": None,
    "AMD-Instinct-MI355X-OAM": None,
    "AMD-Radeon-R9-200-HD-7900": None,
    "AMD-Radeon-HD-7900": None,
    "aws-neuron-core": None,
    "TPU-V2": None,
    "TPU-V3": None,
    "TPU-V4": None,
    "TPU-V5P": None,
    "TPU-V5LITEPOD": None,
    "TPU-V6E": None,
    "TPU-V7X": None,
    "Ascend910B": None,
    "Ascend910B4": None,
    "MXC500": None,
    "MXC550": None,
    "FURIOSA_RNGD": None,
    "M1": None,
    "M1-Pro": None,
    "M1-Max": None,
    "M1-Ultra": None,
    "M2": None,
    "M2-Pro": None,
    "M2-Max": None,
    "M2-Ultra": None,
    "M3": None,
    "M3-Pro": None,
    "M3-Max": None,
    "Apple-Silicon": None,
    "MOBILINT_ARIES": None,
    "MOBILINT_REGULUS": None,
}
"""Memory of one accelerator that programs can use, in GiB, by its name in `ray.util.accelerators`.

None where no share of it is reckoned. Of a kind that is sold in several sizes it is the smallest.
"""


def known_accelerator(name: str | None) -> str | None:
    """Returns the name of an accelerator, or None for any.

    Raises:
        ValueError: there is no such name; tells the nearest.
    """
    if name is not None and name not in ACCELERATORS:
        raise ValueError(near_miss(name, ACCELERATORS))
    return name


def accelerator_of(machine: str) -> str | None:
    """Returns Ray's name of the accelerator that a platform's label of a machine tells.

    Args:
        machine: the label, such as `nvidia-l4` or `NVIDIA-A100-SXM4-40GB`.

    Returns:
        The longest name that is a part of the label; None where none is.
    """
    parts = f"-{machine}-".lower().replace("_", "-").replace(" ", "-")
    found = [name for name in ACCELERATORS if f"-{name}-".lower() in parts]
    return max(found, key=len, default=None)
