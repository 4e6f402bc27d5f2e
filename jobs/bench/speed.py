"""Speed of editing methods on large pictures: images a second, share of the GPU, and memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from overpaint.operators.edit import Edit
from overpaint.operators.fit import Fit
from overpaint.operators.fits import FITS
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.invert import Invert
from overpaint.pipeline.columns import Column
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.images import Picture, encode, encode_mask
from overpaint.pipeline.operator import ModelOperator
from torch.utils.flop_counter import FlopCounterMode

HOW = """\
A batch of noise pictures goes through a method and the stages that it needs, in this process: from
prepared inputs to decoded pictures, without PNG. The first run of a batch size is not timed.
FLOPs are those of matrix products, convolutions and attention, counted by PyTorch over one run;
their share is of a product of two large square matrices in the same number type, timed in the same
call. Memory is the most that PyTorch's allocator had in use, weights included."""

DEFAULT_METHODS = ("sdedit", "prompt_to_prompt", "masactrl", "dds", "dps")
_MATRIX_SIDE = 8192
_TIMED_PRODUCTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedRequest:
    """Methods and sizes to time.

    Attributes:
        checkpoint: folder or hub id of a checkpoint that draws from words.
        methods: editing methods.
        batch_sizes: rows in one call.
        side_px: side of the pictures, in pixels.
        steps: sampling steps.
        dtype: number type.
        repeats: timed runs of each; the median is given.
    """

    checkpoint: str
    methods: Sequence[str] = DEFAULT_METHODS
    batch_sizes: Sequence[int] = (1, 4, 16)
    side_px: int = 512
    steps: int = 20
    dtype: str = "float16"
    repeats: int = 1


def measure_speed(request: SpeedRequest) -> Iterator[dict[str, Any]]:
    """Times methods; yields a row for each method and batch size.

    Yields:
        `method`, `batch_size`, `images_s`, `tflops` a second, `share_of_product`, `peak_gib`; a
        size that the device has too little memory for has `peak_gib` alone.
    """
    product = product_tflops(request.dtype)
    for method in request.methods:
        for batch_size in request.batch_sizes:
            try:
                yield _timed(request, method, batch_size, product)
            except torch.OutOfMemoryError:
                yield _row(method, batch_size, peak_gib=_peak_gib())


def product_tflops(dtype: str) -> float:
    """Returns the TFLOP/s of a product of two square matrices on this device."""
    device = _device()
    side = _MATRIX_SIDE if device.type == "cuda" else 512
    kind: torch.dtype = getattr(torch, dtype)
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    torch.matmul(left, right)

    def products() -> None:
        for _ in range(_TIMED_PRODUCTS):
            torch.matmul(left, right)

    return 2 * side**3 * _TIMED_PRODUCTS / _seconds(products) / 1e12


def _timed(request: SpeedRequest, method: str, batch_size: int, product: float) -> dict[str, Any]:
    stages = _stages(request, method, batch_size)
    has_mask = MASK in Edit.variants.find(method).needs
    rows = [_picture_row(place, request.side_px, has_mask) for place in range(batch_size)]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with FlopCounterMode(display=False) as flops:
        _run(stages, rows)
    taken = sorted(_seconds(lambda: _run(stages, rows)) for _ in range(request.repeats))
    seconds = taken[len(taken) // 2]
    tflops = flops.get_total_flops() / seconds / 1e12
    return _row(
        method,
        batch_size,
        images_s=batch_size / seconds,
        tflops=tflops,
        share_of_product=tflops / product,
        peak_gib=_peak_gib(),
    )


def _row(method: str, batch_size: int, **figures: float | None) -> dict[str, Any]:
    names = ("images_s", "tflops", "share_of_product", "peak_gib")
    return {"method": method, "batch_size": batch_size, **dict.fromkeys(names), **figures}


def _stages(
    request: SpeedRequest, method: str, batch_size: int
) -> list[ModelOperator[Any, Any, Any]]:
    """Returns the operators that a method needs, and its edit."""
    shared: dict[str, Any] = {"checkpoint": request.checkpoint, "dtype": request.dtype}
    shared |= {"batch_size": batch_size}
    sized = {"num_inference_steps": request.steps, "resolution": request.side_px}
    kind = Edit.variants.find(method)
    edit = Edit.model_validate({"method": method, **shared, **_own(kind, sized)})
    before: list[ModelOperator[Any, Any, Any]] = []
    for need in edit.own.needs:
        if isinstance(need, Column) and need.scope == "group":
            for catalogue, operator in ((INVERSIONS, Invert), (FITS, Fit)):
                for name in _giving(catalogue, need):
                    fields = _own(catalogue.find(name), sized)
                    before.append(operator.model_validate({"method": name, **shared, **fields}))
                    break
    return [*before, edit]


def _own(kind: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in kind.model_fields}


def _giving(catalogue: Any, column: Column) -> list[str]:
    return [name for name in catalogue.names() if column in catalogue.find(name).outputs]


def _run(stages: Sequence[ModelOperator[Any, Any, Any]], rows: Sequence[dict[str, Any]]) -> None:
    for operator in stages[:-1]:
        answers: list[Any] = operator.run(rows, operator.load())
        rows = [{**row, **answer} for row, answer in zip(rows, answers, strict=True)]
    model = stages[-1].load()
    stages[-1].infer([stages[-1].prepare(row, model) for row in rows], model)


def _picture_row(place: int, side_px: int, has_mask: bool) -> dict[str, Any]:
    mask = np.zeros((side_px, side_px), np.uint8)
    mask[side_px // 4 : side_px // 2, side_px // 4 : side_px // 2] = 255
    pixels = np.random.default_rng(place).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    return {
        "source_image": encode(Picture(pixels), "png"),
        "mask_image": encode_mask(mask) if has_mask else None,
        "width_px": side_px,
        "height_px": side_px,
        "source_prompt": "a photo",
        "target_prompt": "a painting",
        "seed": place,
        "image_format": "png",
    }


def _seconds(act: Callable[[], None]) -> float:
    _wait()
    started = time.perf_counter()
    act()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gib() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
