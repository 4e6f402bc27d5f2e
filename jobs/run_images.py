"""Images of a run's rows: those that the run stored, and the sources that it read."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from overpaint.operators.fetch import Fetch
from overpaint.operators.sources.access import Access, Reader, Span
from overpaint.pipeline.columns import DRAWN_URI, STORED_IMAGES, STORED_SPANS, TAR_SPANS
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.images import Picture, decode
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.shards import read_picture, spans_by_address
from overpaint.pipeline.storage.uris import is_absolute, join

_MAX_SPANS = 2**16

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
            return self._stored(row, row[STORED_IMAGES[image]])
        if drawn := row.get(DRAWN_URI.name):
            return self._stored(row, drawn)
        uri = join(self._base_uri, row["source_uri"]) if row["source_sha256"] else ""
        self._note(self._base_uri, row.get(TAR_SPANS.name))
        return uri if is_absolute(uri) else None

    def _stored(self, row: Mapping[str, Any], path: str | None) -> str | None:
        spans = row.get(STORED_SPANS.name) or ()
        self._note(self._folder.storage.uri, [span for span in spans if span["uri"] == path])
        return self._folder.storage.at(path) if path else None

    def _note(self, base_uri: str, spans: Sequence[Mapping[str, Any]] | None) -> None:
        """Notes the places of members of tars; the oldest go, since they are read soon."""
        for address, span in spans_by_address(spans).items():
            self._spans[join(base_uri, address)] = span
        while len(self._spans) > _MAX_SPANS:
            self._spans.pop(next(iter(self._spans)), None)

    def read(self, uri: str) -> bytes:
        """Reads an image that `uri` names: a source within the limits that the run kept to.

        Raises:
            FileNotFoundError: the run folder does not have the image.
            RowError: the source is missing, forbidden or too large.
        """
        root, span = f"{self._folder.storage.uri}/", self._spans.get(uri)
        if uri.startswith(root):
            return read_picture(self._folder.storage, uri.removeprefix(root), span)
        return self._reader.one(self._base_uri, uri, span)

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
