"""`fidelity`: SSIM of an edit with its source, and on request the background as PIE-Bench has it.

`score` measures the background by its own area; PIE-Bench's figures depend on the size of the mask
and are here for comparison with published tables.
"""

from typing import ClassVar

from overpaint.operators.measures.fidelity import pie_fidelity, structural_similarity
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.pixel_measure import PixelMeasure
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.operator import NewColumns

SSIM = score("ssim", "structural similarity of the source and the edited image, up to 1")
PIE_MSE = score("pie_mse", "PIE-Bench's MSE of the background, 0 to 1")
PIE_PSNR_DB = score("pie_psnr_db", "PIE-Bench's PSNR of the background, at most 100 dB")
PIE_SSIM = score("pie_ssim", "PIE-Bench's SSIM of the background, up to 1")

_PIE = (PIE_MSE, PIE_PSNR_DB, PIE_SSIM)


class Fidelity(PixelMeasure):
    """Measures SSIM over the whole picture: skimage's, windows of 7 px, the mean of the channels.

    With `pie` it adds MSE, PSNR and SSIM (Gaussian windows of 11 px) of both pictures made black
    inside the mask that was really editable and along the border, over the whole frame.
    """

    columns: ClassVar[tuple[Column, ...]] = (SSIM,)

    pie: bool = False
    """Whether PIE-Bench's figures of the background are added."""

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The similarity, and PIE-Bench's figures where they are asked for."""
        return (*self.columns, *(_PIE if self.pie else ()))

    def measure(self, pair: Pair, row: Row) -> NewColumns:
        """Returns the figures of one row; those of the background are null where there is none."""
        del row
        whole = {SSIM.name: structural_similarity(pair.source, pair.edited)}
        if not self.pie:
            return whole
        found = pie_fidelity(pair)
        values = (None, None, None) if found is None else found
        return whole | {column.name: value for column, value in zip(_PIE, values, strict=True)}
