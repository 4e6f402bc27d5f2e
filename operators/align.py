"""`align`: measures by how much an edit is shifted, zoomed, turned or tinted against its source.

Only the part that should not change counts: what is outside the mask that was really editable, or
where there is none, whatever most of the picture agrees on. The measured columns can stand in
`[policy]`:

    [policy]
    align_dx_px = { min = -0.5, max = 0.5, allow_null = true }
    align_dy_px = { min = -0.5, max = 0.5, allow_null = true }
    align_scale = { min = 0.995, max = 1.005, allow_null = true }

`realign` corrects what is small enough.
"""

from typing import ClassVar

from overpaint.operators.measures.alignment import color_drift, measure_alignment
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.pixel_measure import PixelMeasure
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.operator import NewColumns

ALIGN_DX_PX = score("align_dx_px", "shift of the edit to the right, px of the source")
ALIGN_DY_PX = score("align_dy_px", "shift of the edit downwards, px of the source")
ALIGN_SHIFT_PX = score("align_shift_px", "length of the edit's shift, px of the source")
ALIGN_SCALE = score(
    "align_scale", "size of the edit's content over the source's; 1.02 is zoomed in"
)
ALIGN_ROTATION_DEG = score("align_rotation_deg", "rotation of the edit, counter-clockwise")
ALIGN_CONFIDENCE = score(
    "align_confidence", "share of the kept structure that lies where these say, 0 to 1"
)
COLOR_DRIFT = score("color_drift", "typical delta E (CIE 1976) of what should not change")


class Align(PixelMeasure):
    """Measures shift, scale, rotation and drift of colour of the part that should not change.

    Shift, scale and rotation are those of a similarity that is found by phase correlation (masked,
    Padfield 2012), Fourier-Mellin spectra (Reddy and Chatterji 1996) and Gauss-Newton steps. They
    are null where the part that should not change is too small or too plain to fix a shift; drift
    of colour is null where there is no such part. Sources with a side above 768 px are measured
    reduced by a whole factor.

    Example:
        >>> (answer,) = Align().run([{"source_image": source, "edited_image": shifted}], None)
        >>> round(answer["align_dx_px"], 1), answer["align_scale"]
        (1.0, 1.0)
    """

    columns: ClassVar[tuple[Column, ...]] = (
        ALIGN_DX_PX,
        ALIGN_DY_PX,
        ALIGN_SHIFT_PX,
        ALIGN_SCALE,
        ALIGN_ROTATION_DEG,
        ALIGN_CONFIDENCE,
        COLOR_DRIFT,
    )

    def measure(self, pair: Pair, row: Row) -> NewColumns:
        """Returns the alignment of one row."""
        del row
        found = measure_alignment(pair)
        drift = {COLOR_DRIFT.name: color_drift(pair, found)}
        if found is None:
            return {**{column.name: None for column in self.columns}, **drift}
        return {
            ALIGN_DX_PX.name: found.dx_px,
            ALIGN_DY_PX.name: found.dy_px,
            ALIGN_SHIFT_PX.name: (found.dx_px**2 + found.dy_px**2) ** 0.5,
            ALIGN_SCALE.name: found.scale,
            ALIGN_ROTATION_DEG.name: found.rotation_deg,
            ALIGN_CONFIDENCE.name: found.confidence,
            **drift,
        }
