"""Examples of an export, in order: the third pass, which reads and encodes pictures.

A few examples are worked on at a time, whatever their number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from overpaint.jobs.export.choice import NONE, Chosen, Kind
from overpaint.jobs.export.example import Edit, Example
from overpaint.jobs.export.index import Index
from overpaint.jobs.export.pictures import Encoded, encoded, mask_of, white_mask
from overpaint.jobs.export.rank import Rank
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.rows import REFERENCES, caption_columns, carried, text_of
from overpaint.jobs.export.runs import FinishedRun, RowReader
from overpaint.jobs.export.sources import NO_SOURCE
from overpaint.jobs.export.threads import in_threads
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import Picture, decode

Row = Mapping[str, Any]
Size = tuple[int, int]


class Refused(Exception):  # noqa: N818  no error: an example that is left out, and counted
    """Reason why a pair is no example."""


@dataclass(frozen=True, slots=True)
class Making:
    """Settings by which examples are made.

    Attributes:
        request: what is exported.
        kind: what the export is made of.
        takes_references: whether the format has a place for references.
        rank: what ranks candidates; None for nothing.
        fields: columns that tables carry.
    """

    request: ExportRequest
    kind: Kind
    takes_references: bool
    rank: Rank | None
    fields: Sequence["pa.Field[Any]"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row with its run, whose pictures can be read."""

    row: Row
    run: FinishedRun

    def open(self, image: Any) -> Picture | None:
        """Opens one of the row's pictures.

        Raises:
            Refused: the source cannot be read, or the edited image is broken.
            UsageError: the run has lost the edited image.
        """
        try:
            return self.run.images.open(self.row, image)
        except RowError as error:
            raise Refused(error.code) from error
        except FileNotFoundError as error:
            uri = self.run.folder.storage.uri
            raise UsageError(
                f"{uri}: a picture of row {self.row['key']} is gone; "
                f"`overpaint verify {uri} --repair` helps"
            ) from error


def make_examples(
    index: Index,
    chosen: Chosen,
    splits: Sequence[str],
    reader: RowReader,
    making: Making,
) -> Iterator[Example | str]:
    """Makes the examples of an export.

    Args:
        index: candidates.
        chosen: which of them become examples.
        splits: name of the split of each example.
        reader: reader of rows.
        making: what examples are made by.

    Yields:
        Each example in order, or the reason why there is none.
    """

    def candidate(number: int) -> _Candidate:
        place = index.place(number)
        return _Candidate(reader.row(place), reader.runs[place.run])

    def calls() -> Iterator[Callable[[], Example | str]]:
        for winner, loser, split in zip(chosen.winners, chosen.losers, splits, strict=True):
            second = None if loser == NONE else candidate(int(loser))
            yield partial(_made, candidate(int(winner)), second, split, making)

    yield from in_threads(calls())


def _made(
    first: _Candidate, second: _Candidate | None, split: str, making: Making
) -> Example | str:
    try:
        return _example(first, second, split, making)
    except Refused as refused:
        return str(refused)


def _example(first: _Candidate, second: _Candidate | None, split: str, making: Making) -> Example:
    request, row = making.request, first.row
    caption = text_of(row, caption_columns(request))
    if caption is None:
        raise Refused("no_inverse" if request.reverse else "no_caption")
    references = _references(first, making)
    source = first.open("source_image")
    if source is None:
        raise Refused(NO_SOURCE)
    winner = None if making.kind == "prompts" else _edited(first)
    loser = None if second is None else _edited(second)
    size = _common_size([p for p in (source, winner, loser) if p is not None], request)
    before = _encoded(source, size, making)
    target = None if winner is None else _edit(first, winner, size, making)
    if request.reverse and target is not None:
        before, target = target.picture, _replaced(target, before)
    return Example(
        name=row["key"] if second is None else f"{row['key']}-{second.row['key']}",
        split=split,
        caption=caption,
        edit_type=row[c.EDIT_TYPE.name] or "",
        source=before,
        target=target,
        loser=None if second is None or loser is None else _edit(second, loser, size, making),
        mask=_mask(first, size),
        references=references,
        cells=carried(row, making.fields, reverse=request.reverse),
    )


def _edited(candidate: _Candidate) -> Picture:
    picture = candidate.open("edited_image")
    assert picture is not None  # the index has rows with an edited image alone
    return picture


def _common_size(pictures: Sequence[Picture], request: ExportRequest) -> Size:
    """Returns the width and height of some pictures, or what is common to them.

    Raises:
        Refused: they are of unequal sizes, and are not to be cropped.
    """
    sizes = {(picture.width_px, picture.height_px) for picture in pictures}
    if len(sizes) > 1 and request.fit == "refuse":
        raise Refused("size")
    return min(width for width, _ in sizes), min(height for _, height in sizes)


def _encoded(picture: Picture, size: Size, making: Making, edited_as: str = "") -> Encoded:
    request = making.request
    return encoded(picture, request.colour, size, request.image_format, edited_as)


def _edit(candidate: _Candidate, picture: Picture, size: Size, making: Making) -> Edit:
    row = candidate.row
    rank = making.rank.of(row) if making.rank else None
    image = _encoded(picture, size, making, row["key"])
    return Edit(row["key"], image, rank, row[c.CHECKPOINT.name] or "")


def _replaced(edit: Edit, picture: Encoded) -> Edit:
    return Edit(edit.key, picture, edit.rank, edit.checkpoint)


def _references(candidate: _Candidate, making: Making) -> tuple[Encoded, ...]:
    uris = next((found for name in REFERENCES if (found := candidate.row.get(name))), ())
    if uris and (making.request.reverse or not making.takes_references):
        raise Refused("references")
    try:
        pictures = [decode(candidate.run.images.read(uri)) for uri in uris]
    except RowError as error:
        raise Refused(error.code.replace("source_", "references_")) from error
    return tuple(_encoded(p, (p.width_px, p.height_px), making) for p in pictures)


def _mask(candidate: _Candidate, size: Size) -> bytes:
    """Returns the mask of what was really editable, else of what was asked for, else of all."""
    row = {c.EDITABLE_MASK_URI.name: None, **candidate.row}
    named = _Candidate(row, candidate.run)
    picture = named.open("editable_mask_image") or named.open("mask_image")
    if picture is None or picture.width_px < size[0] or picture.height_px < size[1]:
        return white_mask(size)
    return mask_of(picture, size)
