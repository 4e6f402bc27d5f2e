"""Fields of what asks a chat model about a row, and may show it the source."""

from collections.abc import Hashable

from overpaint.operators.models import chat_model
from overpaint.operators.models.instructor import Reader
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import decode
from PIL import Image
from pydantic import Field


class SeesSource(Reader):
    """Reader whose chat model may see the source."""

    sees_source: bool = True
    """Whether the model is shown the source; false for a model of text alone."""
    image_px: int = Field(default=512, ge=16, le=4096)
    """Sources whose longer side is longer are scaled down to it."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, where the model sees it."""
        return (c.SOURCE_IMAGE,) if self.sees_source else ()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The source's size, where the model sees it."""
        return (c.WIDTH_PX, c.HEIGHT_PX) if self.sees_source else ()

    def bucket(self, row: Row) -> Hashable:
        """Returns the size of the picture: equal ones have equally many tokens."""
        width, height = row.get(c.WIDTH_PX.name), row.get(c.HEIGHT_PX.name)
        if not (self.sees_source and width and height):
            return None
        return chat_model.fitted(width, height, self.image_px)

    def pictures(self, row: Row) -> tuple[Image.Image, ...]:
        """Returns the pictures that a question about a row shows: the source, or none."""
        if not self.sees_source:
            return ()
        return (chat_model.fit(decode(row["source_image"]).image(), self.image_px),)
