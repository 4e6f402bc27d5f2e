"""Memory that an actor has really taken of its GPU, beside the share of it that it reserves."""

import logging
import sys
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)


class DeviceMemory(NamedTuple):
    """Memory of a GPU, in bytes.

    Attributes:
        peak: the most that this process has held of it.
        total: all that there is.
    """

    peak: int
    total: int


def device_memory() -> DeviceMemory | None:
    """Returns the memory of this process's GPU; None where no model has used one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return DeviceMemory(torch.cuda.max_memory_reserved(), total)


class ShareProbe:
    """Probe of the share of a GPU that an actor reserves: says once where it takes more.

    Args:
        group: name of the actor's group.
        share: GPUs that it reserves.
    """

    def __init__(self, group: str, share: float) -> None:
        self._group, self._share = group, share
        self._is_said = False

    def notes(self, memory: DeviceMemory | None) -> dict[str, Any]:
        """Returns what the run's statistics keep of a measurement; nothing without a GPU."""
        if memory is None or not self._share:
            return {}
        share_gib, peak_gib = self._share * memory.total / 2**30, memory.peak / 2**30
        if peak_gib > share_gib and self._share < 1 and not self._is_said:
            self._is_said = True
            _log.warning(
                "group %r took %.3g GiB of its GPU, and num_gpus = %g is %.3g GiB: raise num_gpus",
                *(self._group, peak_gib, self._share, share_gib),
            )
        measured = {"peak_gib": round(peak_gib, 3), "share_gib": round(share_gib, 3)}
        return {f"gpu memory of {self._group}": measured}
