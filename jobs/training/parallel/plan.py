"""Plan of a training of all checkpoints: lanes, and examples to draw for a time and a machine."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from overpaint.jobs.training.parallel.drawing import CHUNK
from overpaint.jobs.training.parallel.kinds import KINDS

# Share of the drawing time, and examples that one core draws in a second.
_SHARES: Mapping[str, tuple[float, float]] = {
    "scene": (0.20, 2000.0),
    "view": (0.03, 2500.0),
    "mask": (0.06, 2500.0),
    "edit": (0.34, 1700.0),
    "pair": (0.22, 1400.0),
    "fill": (0.15, 2000.0),
}
_KINDS_OF: Mapping[str, tuple[str, ...]] = {
    "vae": ("scene", "view"),
    "text_to_image": ("scene",),
    "instruction": ("edit",),
    "inpainting": ("fill",),
    "judge": ("pair",),
    "caption": ("scene",),
    "clipseg": ("mask",),
    "sam": ("mask",),
}
CHECKPOINTS = tuple(_KINDS_OF)
"""Checkpoints that are trained at once."""

# Share of the time in which drawing goes on beside a GPU, and on a machine without one. To encode
# an example costs a third of a step's time for it: it is to be used several times.
_DRAWING_SHARE = {True: 0.07, False: 0.03}
_DISK_SHARE = 0.6
_MEMORY_DISK = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Size of a training of all checkpoints.

    Attributes:
        sizes: number of examples to draw, by kind.
        num_workers: number of drawing processes.
        num_lanes: number of processes that train.
        most_steps: steps after which each stage ends; None for no limit but time.
    """

    sizes: Mapping[str, int]
    num_workers: int
    num_lanes: int
    most_steps: int | None = None


_DRY_SIZES = {"scene": 512, "view": 256, "mask": 256, "edit": 512, "pair": 256, "fill": 256}


def dry_run_plan(only: Sequence[str] = ()) -> Plan:
    """Returns the plan that takes every stage, export and check in two minutes of a CPU core."""
    kinds = _kinds(only)
    sizes = {kind: size for kind, size in _DRY_SIZES.items() if kind in kinds}
    return Plan(sizes=sizes, num_workers=num_workers(), num_lanes=1, most_steps=4)


def plan_for(seconds: float, folder: Path, *, has_gpu: bool, only: Sequence[str] = ()) -> Plan:
    """Returns the plan of a training on this machine.

    Args:
        seconds: duration of the training.
        folder: existing folder of the drawn arrays; they take at most 0.6 of its free space.
        has_gpu: draw beside a GPU, on all cores but three; otherwise two cores train.
        only: checkpoints to train; none for all.
    """
    workers, kinds = num_workers(), _kinds(only)
    drawing_s = _DRAWING_SHARE[has_gpu] * seconds * workers / sum(_SHARES[k][0] for k in kinds)
    sizes = {kind: _whole_chunks(_SHARES[kind][0] * _SHARES[kind][1] * drawing_s) for kind in kinds}
    fits = _DISK_SHARE * shutil.disk_usage(folder).free / _num_bytes(sizes)
    if fits < 1.0:
        sizes = {kind: _whole_chunks(number * fits) for kind, number in sizes.items()}
    num_lanes = 1 if has_gpu or only or os.cpu_count() == 1 else 2
    return Plan(sizes=sizes, num_workers=workers, num_lanes=num_lanes)


def _kinds(only: Sequence[str]) -> Sequence[str]:
    """Returns the kinds of examples that some checkpoints are trained on, all for none."""
    wanted = {kind for name in only or CHECKPOINTS for kind in _KINDS_OF[name]}
    return [kind for kind in _SHARES if kind in wanted]


def num_workers() -> int:
    """Returns the number of drawing processes: all cores but those of launcher and lanes."""
    return max(1, (os.cpu_count() or 1) - 3)


def shared_folder() -> Path:
    """Returns the folder for drawn arrays: shared memory where there is any, else temporary."""
    from tempfile import gettempdir

    return _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else Path(gettempdir())


def _num_bytes(sizes: Mapping[str, int]) -> int:
    return sum(
        size * int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
        for kind, size in sizes.items()
        for field in KINDS[kind].fields.values()
    )


def _whole_chunks(number: float) -> int:
    return max(1, int(number) // CHUNK) * CHUNK
