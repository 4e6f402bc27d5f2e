"""Warping of an edit back onto its source."""

from typing import Any

import numpy as np
from overpaint.operators.measures.similarity import Similarity
from scipy import ndimage

Floats = np.ndarray[Any, np.dtype[Any]]
"""float32 HW."""


def warp(picture: Any, found: Similarity, *, order: int = 1) -> Floats:
    """Returns an edit at the places to which a map leads the pixels of its source.

    Args:
        picture: one channel HW; for order 3 the coefficients of its cubic splines.
        found: map from the source to the edit.
        order: 1 for bilinear interpolation, 3 for cubic splines.
    """
    origin: Any = (found.v, found.u)
    warped: Any = ndimage.affine_transform(
        picture,
        np.array([[found.a, found.b], [-found.b, found.a]]),
        offset=origin,
        order=order,
        mode="mirror",
        prefilter=False,
        output=np.float32,
    )
    return warped


def spline_coefficients(picture: Any) -> Floats:
    """Returns the coefficients of the cubic splines through a picture, one channel HW."""
    kind: Any = np.float32
    coefficients: Any = ndimage.spline_filter(picture, order=3, output=kind, mode="mirror")
    return coefficients


def inside(found: Similarity, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tells which pixels of a source a map leads to a place within its edit, bool HW."""
    height, width = shape
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    column = found.a * x - found.b * y + found.u
    row = found.b * x + found.a * y + found.v
    slack = 1e-6
    across = (column >= -slack) & (column <= width - 1 + slack)
    return across & (row >= -slack) & (row <= height - 1 + slack)
