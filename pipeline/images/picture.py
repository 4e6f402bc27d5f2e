"""Pictures: upright 8-bit pixels with what an editor must not lose."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

LARGE_PX = 24_000_000
"""Pictures with more pixels are large: some work is done on a reduced copy of theirs."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""RGB uint8 HWC or one channel uint8 HW, 0-255."""

_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright image: RGB uint8 HWC; alpha uint8 HW and an ICC profile where it had them.

    Attributes:
        rgb: stored colours, uint8 HWC; under an alpha of 0 they are seen by nobody.
        alpha: opacity, uint8 HW; None where the image had none.
        icc_profile: colour profile; None where the image had none.
        is_turned: True where the image is stored on its side, and `rgb` is turned by 90 degrees.

    Example:
        >>> picture = decode(Path("photo.jpg").read_bytes())
        >>> picture.seen.shape, picture.width_px
    """

    rgb: Pixels
    alpha: Pixels | None = None
    icc_profile: bytes | None = None
    is_turned: bool = False

    @property
    def width_px(self) -> int:
        """Columns of pixels."""
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        """Rows of pixels."""
        return int(self.rgb.shape[0])

    @property
    def seen(self) -> Pixels:
        """Colours as they are seen, uint8 HWC: over white, as on paper, where alpha is below 255.

        This is what models are shown; colours that alpha hides mean nothing.
        """
        return self.rgb if self.alpha is None else np.asarray(self.image())

    def image(self) -> Image.Image:
        """Returns the colours as they are seen, as a Pillow RGB image."""
        image = Image.fromarray(self.rgb)
        if self.alpha is None:
            return image
        paper = Image.new("RGB", image.size, _WHITE)
        paper.paste(image, mask=Image.fromarray(self.alpha))
        return paper

    def small_image(self) -> Image.Image:
        """Returns the colours as they are seen for a model that sees a small square.

        A picture of more than `LARGE_PX` pixels comes reduced by a whole factor: what makes squares
        of it would need gigabytes otherwise.
        """
        image = self.image()
        factor = shrink_factor(self.width_px, self.height_px)
        return image if factor == 1 else image.reduce(factor)


class Loaded(NamedTuple):
    """An upright image as its file has it.

    Attributes:
        image: decoded image, of any of Pillow's modes.
        format: Pillow's name of the format.
        is_turned: True where the image is stored on its side.
    """

    image: Image.Image
    format: str
    is_turned: bool


def shrink_factor(width_px: int, height_px: int) -> int:
    """Returns the least whole factor that reduces an image to `LARGE_PX` pixels or fewer."""
    return math.ceil(math.sqrt(max(1.0, width_px * height_px / LARGE_PX)))
