"""One row of an edit or an inversion, framed and decoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.framing.frame import Frame
from overpaint.pipeline.images import Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRequest:
    """One row as a method sees it.

    Attributes:
        frame: part of the source that the model sees, and its size there.
        picture: the source in that frame, RGB uint8 HWC.
        prompt: target prompt or instruction, whichever the method reads.
        seed: seed of the row's generator.
        mask: float32 HW, 0-1, of the picture's size: what may change; None for everything.
        values: what the method needs beside these, by the names of columns and conditions.
    """

    frame: Frame
    picture: Pixels
    prompt: str = ""
    seed: int = 0
    mask: NDArray[np.float32] | None = None
    values: Mapping[str, Any]
