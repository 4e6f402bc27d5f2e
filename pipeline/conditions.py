"""Conditions: what an editing method can read beside the source, its words and its seed.

A condition is one declaration. An editing method names it; `fetch` reads those that are pictures,
from the column of the input that the declaration names; and the frame of a row, see
`operators.framing.frame`, turns it into what the method gets. A new condition is a new declaration
in `CONDITIONS` and nothing else.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

Form = Literal["picture", "pictures", "labels", "weights", "boxes", "points", "concepts"]
"""What a method gets.

- `picture`: RGB pixels
- `pictures`: a list of RGB pixels, one or more
- `labels`: RGB pixels of a label map, whose colours are never mixed
- `weights`: floats from 0 (black) to 1 (white)
- `boxes`: labelled boxes, in pixels of the model's picture
- `points`: pairs of places, from and to, in pixels of the model's picture
- `concepts`: phrases to add or to remove, each with numbers of its own
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """A value of a row that a method can read.

    Attributes:
        name: a word for recipes, such as `sketch`, and the start of its error codes.
        form: what a method gets.
        input: column of the input table: URIs of pictures, or the value itself.
        image: stream column of the encoded pictures; None where the value is not a picture.
        sha256: column of the pictures' hashes; None where none is written.
        aligned: whether it has the source's coordinates and is framed with it; a condition that
            is not aligned keeps its own size.
    """

    name: str
    form: Form
    input: Column
    image: Column | None = None
    sha256: Column | None = None
    aligned: bool = True

    @property
    def column(self) -> Column:
        """The column that an operator with this condition reads."""
        return self.image or self.input

    @property
    def table_name(self) -> str:
        """The name of its column in the input table."""
        return self.input.name.removeprefix("in_")

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that `fetch` writes for it."""
        return tuple(column for column in (self.image, self.sha256) if column is not None)


def _picture(name: str, doc: str, form: Form = "picture", *, aligned: bool = True) -> Condition:
    return Condition(
        name=name,
        form=form,
        input=Column(f"{name}_uri", pa.string(), f"URI of {doc}"),
        image=Column(f"{name}_image", pa.binary(), f"{doc}, encoded", "stream"),
        sha256=Column(f"{name}_sha256", pa.string(), f"SHA-256 of the file of {doc}"),
        aligned=aligned,
    )


MASK = Condition("mask", "weights", c.INPUT_MASK_URI, c.MASK_IMAGE)
"""The region that may change; its manifest columns are those of masks that a stage finds."""
SKETCH = _picture("sketch", "a line drawing of the edited image")
STROKES = _picture("strokes", "colour strokes that hint at the edited image")
SEGMENTATION = _picture("segmentation", "a label map of the edited image", "labels")
STRENGTH_MAP = _picture("strength_map", "a map of how much each place may change", "weights")
REFERENCES = Condition(
    name="references",
    form="pictures",
    input=Column("references", pa.list_(pa.string()), "URIs of images that show what is wanted"),
    image=Column("reference_images", pa.list_(pa.binary()), "the references, encoded", "stream"),
    sha256=Column("reference_sha256", pa.list_(pa.string()), "SHA-256 of each reference's file"),
    aligned=False,
)
"""Images of what is wanted; a method for one reference takes the first."""
REFERENCE_MASK = _picture(
    "reference_mask", "a mask of what the first reference shows", "weights", aligned=False
)
BOXES = Condition("boxes", "boxes", c.BOXES)
POINTS = Condition("points", "points", c.POINTS)
EDIT_CONCEPTS = Condition("edit_concepts", "concepts", c.EDIT_CONCEPTS, aligned=False)

CONDITIONS: dict[str, Condition] = {
    condition.name: condition
    for condition in (
        MASK,
        SKETCH,
        STROKES,
        SEGMENTATION,
        STRENGTH_MAP,
        REFERENCES,
        REFERENCE_MASK,
        BOXES,
        POINTS,
        EDIT_CONCEPTS,
    )
}
"""Every condition by its name."""
PICTURES: dict[str, Condition] = {
    name: condition for name, condition in CONDITIONS.items() if condition.image is not None
}
"""The conditions that `fetch` reads, by name."""
