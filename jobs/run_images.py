"""Images of a run's rows: those that the run stored, and the sources that it read."""

from collections.abc import Mapping
from typing import Any, Literal

from overpaint.operators.fetch import Fetch
from overpaint.operators.sources.access import Access, Reader, Span
from overpaint.pipeline.columns import DRAWN_URI, STORED_IMAGES, TAR_SPANS
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.images import Picture, decode
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.store import read_uri
from overpaint.pipeline.storage.uris import is_absolute, join

ImageName = Literal["source_image", "edited_image", "mask_image", "editable_mask_image"]


class RunImages:
    """Reader of the images of a run.

    Args:
        folder: run folder.

    Example:
        >>> images = RunImages(folder)
        >>> for row in folder.rows(where={"status": "accepted"}):
        ...     edited, source = images.open(row), images.open(row, "source_image")
    """

    def __init__(self, folder: RunFolder) -> None:
        record = RunRecord.find(folder)
        self._folder = folder
        self._base_uri = record.base_uri if record is not None else ""
        self._reader = Reader(_access(record, folder) if record is not None else Access())
        self._spans: dict[str, Span] = {}

    def uri(self, row: Mapping[str, Any], image: ImageName = "edited_image") -> str | None:
        """Returns the URI of an image of a row; None where the row has none.

        A source has a URI only where the run itself has fetched it: one that was forbidden to the
        run is not read afterwards.

        Args:
            row: row of the manifest, with the columns that name the image.
            image: which of the row's images.
        """
        if image != "source_image":
            path = row[STORED_IMAGES[image]]
            return self._folder.storage.at(path) if path else None
        if drawn := row.get(DRAWN_URI.name):
            return self._folder.storage.at(drawn)
        uri = join(self._base_uri, row["source_uri"]) if row["source_sha256"] else ""
        for span in row.get(TAR_SPANS.name) or ():
            self._spans[join(self._base_uri, span["uri"])] = (span["offset"], span["size"])
        return uri if is_absolute(uri) else None

    def read(self, uri: str) -> bytes:
        """Reads an image that `uri` names: a source within the limits that the run kept to.

        Raises:
            FileNotFoundError: the run folder does not have the image.
            RowError: the source is missing, forbidden or too large.
        """
        if uri.startswith(self._folder.storage.at("")):
            return read_uri(uri)
        return self._reader.one(self._base_uri, uri, self._spans.get(uri))

    def open(self, row: Mapping[str, Any], image: ImageName = "edited_image") -> Picture | None:
        """Decodes an image of a row; returns None where the row has none.

        Args:
            row: row of the manifest, with the columns that name the image.
            image: which of the row's images.

        Raises:
            FileNotFoundError: the run folder does not have the image.
            RowError: the image is broken, or the source is missing, forbidden or too large.
        """
        uri = self.uri(row, image)
        return decode(self.read(uri)) if uri is not None else None


def _access(record: RunRecord, folder: RunFolder) -> Access:
    """Returns what the run was allowed to read; the least where its recipe does not tell."""
    try:
        stages = record.plan(folder).stages
    except UsageError:
        return Access()  # of another version, or its operators are not installed here
    allowed = [stage.operator.access for stage in stages if isinstance(stage.operator, Fetch)]
    return allowed[0] if allowed else Access()
