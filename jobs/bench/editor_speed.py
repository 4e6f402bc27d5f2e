"""Speed of a transformer editor: from JPEG to PNG, beside a bare loop over its pipeline."""

import gc
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from overpaint.jobs.bench.speed import SpeedRequest, product_tflops
from overpaint.operators.diffusion.pipeline_model import load_pipeline
from overpaint.operators.edit import Edit
from overpaint.operators.models.pretrained import device
from overpaint.pipeline.images import Picture, decode, encode
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

HOW_EDITORS = """\
Noise pictures go through `transformer` in this process, without Ray: JPEG in, PNG out, one model
thread, and four that prepare the next rows and encode the last. `busy_share` is the share of the
time in which the model's thread is in a call; `share_of_bare` is beside a loop that calls the same
loaded pipeline with decoded pictures and an embedded prompt, and keeps tensors. The first call,
which compiles where `speed` says so, is `first_call_s`, and in no other figure. FLOPs are counted
by PyTorch over one call; their share is of a product of two large square matrices in the same
number type, timed in the same process."""

_ROWS = 8
_HELPERS = 4
_WORDS = "make it blue"


def measure_editor(request: SpeedRequest) -> Iterator[dict[str, Any]]:
    """Times a transformer editor; yields a row for each speed and batch size.

    Yields:
        `method`, `speed`, `batch_size`, `first_call_s`, `images_s`, `busy_share`, `share_of_bare`,
        `tflops` a second, `share_of_product`, `peak_gib`.
    """
    product = product_tflops(request.dtype)
    flops: dict[int, int] = {}
    for speed in ("exact", "fast") if torch.cuda.is_available() else ("exact",):
        _forget()
        for batch_size in request.batch_sizes:
            edit = _edit(request, speed, batch_size)
            model = edit.load()
            rows = [_row(place, request.side_px) for place in range(_ROWS * batch_size)]
            first_call_s, _ = _edited(edit, model, rows[:batch_size])
            if speed == "exact":  # those of compiled blocks are not seen
                with FlopCounterMode(display=False) as counter:
                    _edited(edit, model, rows[-batch_size:])
                flops[batch_size] = counter.get_total_flops()
            figures = _timed(edit, model, rows)
            tflops = flops[batch_size] / batch_size * figures["images_s"] / 1e12
            yield {
                "method": "transformer",
                "speed": speed,
                "batch_size": batch_size,
                "first_call_s": first_call_s,
                **figures,
                "tflops": tflops,
                "share_of_product": tflops / product,
                "peak_gib": _peak_gib(),
            }


def _edit(request: SpeedRequest, speed: str, batch_size: int) -> Edit:
    return Edit.model_validate(
        {
            "method": "transformer",
            "checkpoint": request.checkpoint,
            "dtype": request.dtype,
            "num_inference_steps": request.steps,
            "resolution": request.side_px,
            "batch_size": batch_size,
            "speed": speed,
        }
    )


def _forget() -> None:
    """Lets go of a loaded pipeline, and of the memory that it had."""
    load_pipeline.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _timed(edit: Edit, model: Any, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    model[""].sources.clear()
    taken_s, busy_s = _edited(edit, model, rows)
    images_s = len(rows) / taken_s
    share_of_bare = images_s / _bare_images_s(edit, model, rows)
    return {
        "images_s": images_s,
        "busy_share": busy_s / taken_s,
        "share_of_bare": share_of_bare,
    }


def _edited(edit: Edit, model: Any, rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Edits rows; returns the seconds in all, and those in the model's calls."""
    _wait()
    started, busy_s = time.perf_counter(), 0.0
    with ThreadPoolExecutor(_HELPERS) as helpers:
        prepared = [helpers.submit(edit.prepare, row, model) for row in rows]
        answers: list[Any] = []
        for start in range(0, len(rows), edit.batch_size):
            part = slice(start, start + edit.batch_size)
            inputs: list[Any] = [future.result() for future in prepared[part]]
            called = time.perf_counter()
            pictures: Any = edit.infer(inputs, model)
            _wait()
            busy_s += time.perf_counter() - called
            for given in zip(rows[part], inputs, pictures, strict=True):
                answers.append(helpers.submit(edit.answer, *given, model))
        for answer in answers:
            answer.result()
    return time.perf_counter() - started, busy_s


def _bare_images_s(edit: Edit, model: Any, rows: Sequence[dict[str, Any]]) -> float:
    """Returns images a second of a loop that calls the pipeline, and does nothing else."""
    pipeline, method = model[""].pipeline, edit.settings.model_dump()
    model[""].sources.clear()
    images = [Image.fromarray(decode(row["source_image"]).rgb) for row in rows]
    with torch.no_grad():
        embeds = pipeline.encode_prompt(prompt=[_WORDS])[0]
    side_px = images[0].width
    _wait()
    started = time.perf_counter()
    for place, image in enumerate(images):
        pipeline(
            image=image,
            prompt_embeds=embeds,
            height=side_px,
            width=side_px,
            num_inference_steps=method["num_inference_steps"],
            guidance_scale=1.0,
            generator=torch.Generator("cpu").manual_seed(place),
            output_type="pt",
        )
    _wait()
    return len(images) / (time.perf_counter() - started)


def _row(place: int, side_px: int) -> dict[str, Any]:
    pixels = np.random.default_rng(place).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    return {
        "source_image": encode(Picture(pixels), "jpg"),
        "width_px": side_px,
        "height_px": side_px,
        "instruction": _WORDS,
        "seed": place,
        "image_format": "png",
    }


def _wait() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def _peak_gib() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
