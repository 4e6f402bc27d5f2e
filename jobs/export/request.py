"""Requests for exports: the format, the choice among candidates, the splits, the pictures."""

from dataclasses import dataclass
from typing import Literal

from overpaint.jobs.export.splits import parse_splits
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.images import FORMATS as IMAGE_FORMATS
from PIL import ImageColor

Choice = Literal["accepted", "best", "all"]
"""Which rows become examples: every accepted one, one of each request, or rejected ones too."""
FITS = ("refuse", "crop")
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """A request for one export.

    Attributes:
        format: name of a format, or `my_package.module:ClassName`.
        like: whose layout of the format; None where the format has one.
        best: whether one candidate of each request is exported, the best by rank.
        all_rows: whether rejected rows that have pictures are exported too.
        rank_by: score that ranks candidates; None takes the one by which the runs' policies choose,
            else the first usual one. Higher is better where no policy says otherwise.
        min_margin: least difference of rank between the best candidate and the next.
        split: shares by name, such as `train=0.9,test=0.1`.
        near_bits: sources whose perceptual hashes differ in at most so many of 64 bits are near
            duplicates, 0 to 8.
        fit: what happens to a pair of unequal sizes: `refuse`, or `crop` to what both share.
        reverse: whether pairs lead from the edited image back to the source.
        caption: column that holds the words of a pair.
        background: colour under transparent pixels, as Pillow names colours.
        image_format: `png`, `jpg` or `webp`.

    Raises:
        UsageError: options exclude each other, or a value is none of those that there are.

    Example:
        >>> ExportRequest(format="ip2p", best=True, split="train=0.9,test=0.1").choice
        'best'
    """

    format: str
    like: str | None = None
    best: bool = False
    all_rows: bool = False
    rank_by: str | None = None
    min_margin: float | None = None
    split: str = "train=1"
    near_bits: int = 4
    fit: str = "refuse"
    reverse: bool = False
    caption: str = "instruction"
    background: str = "white"
    image_format: str = "png"

    def __post_init__(self) -> None:
        if self.image_format not in IMAGE_FORMATS:
            hint = near_miss(self.image_format, IMAGE_FORMATS)
            raise UsageError(f"--image-format {self.image_format!r}: {hint}")
        if self.fit not in FITS:
            raise UsageError(f"--fit {self.fit!r}: {near_miss(self.fit, FITS)}")
        if not 0 <= self.near_bits <= 8:
            raise UsageError(f"--near-bits {self.near_bits}: it must be 0 to 8")
        if self.min_margin is not None and not self.min_margin >= 0:
            raise UsageError(f"--min-margin {self.min_margin}: it must be 0 or more")
        _ = self.colour, self.splits

    @property
    def choice(self) -> Choice:
        """The rows that become examples."""
        return "best" if self.best else "all" if self.all_rows else "accepted"

    @property
    def colour(self) -> Colour:
        """The colour under transparent pixels, RGB, 0 to 255."""
        try:
            red, green, blue = ImageColor.getrgb(self.background)[:3]
        except ValueError as error:
            raise UsageError(
                f"--background {self.background!r}: no colour; write white or '#808080'"
            ) from error
        return red, green, blue

    @property
    def splits(self) -> dict[str, float]:
        """The share of each split, by name, in order; together they are 1."""
        return parse_splits(self.split)
