"""WebDataset: tars whose members with one name, up to its first dot, are a sample.

`0017.jpg` is a source, with the columns of `0017.json` (each of its fields) and `0017.txt` (`txt`).
A picture with a longer ending has a column of addresses: `0017.mask.png` is `mask_uri`. A sample
with several pictures such as `0017.jpg` and `0017.png` gives a row for each.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
from overpaint.pipeline.columns import SOURCE_URI, TAR_SPANS
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.image_formats import IMAGE_SUFFIXES
from overpaint.pipeline.storage.packed import MemberAddress
from overpaint.pipeline.storage.tars import TarError, TarMember, tar_members
from overpaint.pipeline.tables.json_lines import read_json_lines

SAMPLE_KEY = "sample_key"
_SPANS = TAR_SPANS.name.removeprefix("in_")
_TEXTS = (".txt", ".cls")
_JSON = ".json"
_MAX_TEXT_BYTES = 2**24


@dataclass(slots=True)
class _Sample:
    """Members with one name up to its first dot.

    Attributes:
        sources: members that are pictures, by their endings alone.
        others: members that are pictures with longer endings, by the column of their address.
        values: columns that other members give.
    """

    sources: list[TarMember] = field(default_factory=list[TarMember])
    others: dict[str, TarMember] = field(default_factory=dict[str, TarMember])
    values: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ReadTar:
    """Samples of a tar as rows.

    Attributes:
        table: rows; of pictures the addresses, and where in the tar they are.
        left_out: numbers of members that are left out, by ending.
        without_picture: number of samples without a picture.
    """

    table: pa.Table
    left_out: Counter[str]
    without_picture: int


def read_tar(uri: str, path: str) -> ReadTar:
    """Reads the samples of a tar: the heads of all members, and the texts among them.

    Args:
        uri: URI of the tar.
        path: its path relative to the input, of which the addresses are made.

    Raises:
        UsageError: the tar is cut off or damaged, or a text in it cannot be read.
    """
    samples: dict[str, _Sample] = {}
    names, left_out = Counter[str](), Counter[str]()
    try:
        for member, file in tar_members(uri):
            names[member.name] += 1
            key, ending = _split(member.name)
            if names[member.name] > 1 and ending.endswith((*_TEXTS, _JSON)):
                raise ValueError(f"{member.name} is there twice")
            if not key:
                left_out["hidden, or with a name that is not UTF-8 text"] += 1
            elif names[member.name] == 1:
                sample = samples.get(key, _Sample())
                if _add(sample, member, ending, file):
                    samples[key] = sample
                else:
                    left_out[ending or "no ending"] += 1
    except (TarError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    twice = {name for name, times in names.items() if times > 1}
    with_picture = {key: s for key, s in samples.items() if s.sources or s.others}
    rows = [row for key, sample in with_picture.items() for row in _rows(path, key, sample, twice)]
    return ReadTar(_table(rows), left_out, len(samples) - len(with_picture))


def _split(name: str) -> tuple[str, str]:
    """Returns the key of a member's sample, and its ending; no key for one that is not taken."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    try:
        name.encode()
    except UnicodeEncodeError:
        return "", ""
    return (f"{folder}{slash}{stem}" if stem else ""), f"{dot}{ending.lower()}"


def _add(sample: _Sample, member: TarMember, ending: str, file: IO[bytes]) -> bool:
    """Adds a member to its sample; returns False for one that is of no use."""
    before, _, last = ending.rpartition(".")
    if f".{last}" in IMAGE_SUFFIXES:
        if before:
            sample.others[f"{before.lstrip('.').replace('.', '_')}_uri"] = member
        else:
            sample.sources.append(member)
        return True
    if f".{last}" in (*_TEXTS, _JSON):
        sample.values |= _values(member, ending, file)
        return True
    return False


def _values(member: TarMember, ending: str, file: IO[bytes]) -> dict[str, Any]:
    if member.size > _MAX_TEXT_BYTES:
        raise ValueError(f"{member.name} has {member.size} bytes, too many for a text")
    file.seek(member.offset)
    data = file.read(member.size)
    try:
        if not ending.endswith(_JSON):
            before, _, last = ending.rpartition(".")
            name = before.lstrip(".").replace(".", "_") or last
            return {name: data.decode("utf-8-sig").strip()}
        fields = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{member.name} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{member.name} is no object of JSON, whose fields would be columns")
    reserved = (SOURCE_URI.name, SAMPLE_KEY, _SPANS)
    return {f"json_{name}" if name in reserved else name: v for name, v in fields.items()}


def _rows(path: str, key: str, sample: _Sample, twice: set[str]) -> Iterator[dict[str, Any]]:
    others = {name: str(MemberAddress(path, member.name)) for name, member in sample.others.items()}
    for source in sample.sources or [None]:
        members = [*sample.others.values(), *([source] if source else [])]
        # A member that is there twice has no one place: reading it by its name tells that.
        spans = [
            {"uri": str(MemberAddress(path, m.name)), "offset": m.offset, "size": m.size}
            for m in members
            if m.name not in twice
        ]
        address = str(MemberAddress(path, source.name)) if source else None
        given = {name: value for name, value in sample.values.items() if name not in others}
        yield {
            SOURCE_URI.name: address,
            SAMPLE_KEY: key,
            **given,
            **others,
            _SPANS: spans,
        }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    spans = pa.array([row.pop(_SPANS) for row in rows], TAR_SPANS.type)
    if not rows:
        return pa.table({SOURCE_URI.name: pa.array([], pa.string()), _SPANS: spans})
    # As lines of JSON, whose values find their types as those of a table do.
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    table = read_json_lines(text.encode()).table
    if pa.types.is_null(table.schema.field(SOURCE_URI.name).type):
        table = table.drop_columns([SOURCE_URI.name])
    return table.append_column(_SPANS, spans)
