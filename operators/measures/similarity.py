"""Similarity transforms of the plane: a shift, a scale and a rotation, in pixels.

A pixel at `p` (column, row) goes to `[[a, -b], [b, a]] @ p + (u, v)`.
"""

import math
from typing import NamedTuple


class Similarity(NamedTuple):
    """Map from the pixels of a source to those of its edit.

    Attributes:
        a: scale times the cosine of the rotation.
        b: scale times the sine of the rotation; rows count downwards, so b > 0 turns clockwise.
        u: column of the pixel to which column 0, row 0 goes.
        v: row of that pixel.
    """

    a: float = 1.0
    b: float = 0.0
    u: float = 0.0
    v: float = 0.0

    @property
    def scale(self) -> float:
        """Length in the edit over length in the source."""
        return math.hypot(self.a, self.b)

    @property
    def rotation_deg(self) -> float:
        """Rotation of the edit against its source, degrees, counter-clockwise."""
        return -math.degrees(math.atan2(self.b, self.a))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns the column and row to which a pixel goes."""
        return self.a * x - self.b * y + self.u, self.b * x + self.a * y + self.v

    def shift_at(self, x: float, y: float) -> tuple[float, float]:
        """Returns the shift of a pixel, to the right and down."""
        column, row = self.at(x, y)
        return column - x, row - y

    def reduced(self, factor: float) -> "Similarity":
        """Returns the same map for pictures of which each pixel is the mean of `factor` squared.

        A factor below 1 goes the other way: 1 / 4 takes a map of pictures reduced by 4 back.
        """
        middle = (factor - 1) / 2
        column, row = self.at(middle, middle)
        return self._replace(u=(column - middle) / factor, v=(row - middle) / factor)


def similarity_about(
    centre: tuple[float, float],
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    rotation_deg: float = 0.0,
) -> Similarity:
    """Returns the map that scales and turns about a centre, and shifts that centre.

    Args:
        centre: column and row.
        shift: to the right and down.
        scale: length in the edit over length in the source.
        rotation_deg: counter-clockwise.

    Example:
        >>> similarity_about((10.0, 10.0), (1.0, 0.0), 2.0).at(11.0, 10.0)
        (13.0, 10.0)
    """
    angle = -math.radians(rotation_deg)
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    x, y = centre
    return Similarity(a, b, x + shift[0] - a * x + b * y, y + shift[1] - b * x - a * y)
