"""Rows of drawn scenes as stages see them, and their reconstruction by an inversion."""

import json

import numpy as np
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.edit import Edit
from overpaint.operators.invert import Invert
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Operator

SHARED = {"checkpoint": "papercut", "batch_size": 2}


def papercut_rows(folder, rows=2, seed=4):
    """Rows of a new dataset whose target prompt is the source's."""
    write_dataset(folder, rows=rows, seed=seed)
    lines = (folder / "rows.jsonl").read_text().splitlines()
    return [_row(folder, json.loads(line)) for line in lines]


def _row(folder, line):
    return {
        "source_image": (folder / line["source_uri"]).read_bytes(),
        "width_px": 64,
        "height_px": 64,
        "source_prompt": line["source_prompt"],
        "target_prompt": line["source_prompt"],
        "image_format": "png",
    }


def reconstruct(rows, inversion, method, strength=1.0, **fields):
    """The least PSNR in dB of clean latents' decoded pictures: reconstruction and VAE round trip.

    The pictures are compared before they are rounded to 8 bits.
    """
    operator = Invert(**SHARED, **inversion)
    model = operator.load()
    answers = run_each(operator, rows, model)
    rows = [{**row, **answer} for row, answer in zip(rows, answers, strict=True)]
    edit = Edit(method=method, strength=strength, **fields, **SHARED)
    editors = edit.load()
    inputs = [edit.prepare(row, editors) for row in rows]
    made = edit.infer(inputs, editors)
    return min(
        psnr_db(picture, _round_trip(model, decode(row["source_image"]).rgb))
        for picture, row in zip(made, rows, strict=True)
    )


def run_each(operator: Operator, rows, model):
    return operator.run(rows, model)


def _round_trip(model, picture):
    from overpaint.operators.diffusion import latents

    tensor = latents.to_tensor([picture], model.device)
    return latents.decode(model, latents.encode(model, tensor))[0]


def psnr_db(one, other):
    """PSNR in dB of two float pictures, 0-255; at most 120."""
    error = float(np.square(one.astype(float) - other.astype(float)).mean())
    return min(120.0, 10 * np.log10(255**2 / max(error, 1e-12)))
