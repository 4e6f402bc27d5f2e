"""Images as tensors, and sample sheets: enlarged images in a grid or beside captions.

Shapes: n images, h and w pixels, 3 RGB channels.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor


def to_tensor(images_nhw3: NDArray[Any], device: torch.device | str = "cpu") -> Tensor:
    """Converts RGB uint8 NHWC, 0-255, to float NCHW, -1 to 1."""
    tensor = torch.from_numpy(np.array(images_nhw3)).to(device)
    return tensor.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_uint8(images_n3hw: Tensor) -> NDArray[np.uint8]:
    """Converts float NCHW, -1 to 1, to RGB uint8 NHWC, 0-255."""
    scaled = images_n3hw.float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def psnr(expected: NDArray[np.uint8], actual: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the PSNR of each image in dB; images are RGB uint8 NHWC."""
    difference = expected.astype(np.float64) - actual.astype(np.float64)
    mse = np.maximum((difference**2).mean(axis=(1, 2, 3)), 1e-3)
    return 10.0 * np.log10(255.0**2 / mse)


def image_grid(rows: Sequence[NDArray[np.uint8]], *, zoom: int = 3, gap_px: int = 4) -> Image.Image:
    """Draws a grid of images: each entry of `rows` is RGB uint8 NHWC and becomes one row."""
    num_columns = max(len(row) for row in rows)
    height, width = rows[0].shape[1:3]
    cell_w, cell_h = width * zoom + gap_px, height * zoom + gap_px
    grid = Image.new("RGB", (num_columns * cell_w, len(rows) * cell_h), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            cell = Image.fromarray(image).resize(
                (width * zoom, height * zoom), Image.Resampling.NEAREST
            )
            grid.paste(cell, (x * cell_w, y * cell_h))
    return grid


def captioned_images(
    images_nhw3: NDArray[np.uint8], texts: Sequence[str], *, zoom: int = 2, text_px: int = 720
) -> Image.Image:
    """Draws images (RGB uint8 NHWC) one below another, each with a text on its right."""
    height, width = images_nhw3.shape[1:3]
    row_px = height * zoom + 4
    page = Image.new("RGB", (width * zoom + text_px, len(images_nhw3) * row_px), "white")
    pen = ImageDraw.Draw(page)
    for index, (image, text) in enumerate(zip(images_nhw3, texts, strict=True)):
        large = Image.fromarray(image).resize(
            (width * zoom, height * zoom), Image.Resampling.NEAREST
        )
        page.paste(large, (0, index * row_px))
        lines = "\n".join(textwrap.wrap(text, 100))
        pen.multiline_text((width * zoom + 12, index * row_px + 12), lines, fill="black")
    return page
