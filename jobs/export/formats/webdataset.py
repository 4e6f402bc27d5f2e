"""webdataset: tar files of equal bytes, whose samples all have the same fields."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from json import dumps, loads
from typing import Any, ClassVar

from overpaint.jobs.export.destination import Destination
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.tables import SHARD_BYTES
from overpaint.jobs.export.text_files import BySplit
from overpaint.pipeline.storage.store import open_uri

_END_BYTES = 2 * tarfile.BLOCKSIZE
"""Zeros that end a tar file."""


class Webdataset(Format):
    """Samples of `K.input_image.png`, `K.edited_image.png`, `K.mask_image.png` and `K.json`."""

    data_files: ClassVar[str | None] = "{split}-*.tar"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._shards = BySplit(lambda split: _Tars(self.destination, split))

    def add(self, example: Example) -> None:
        """Adds a sample to a tar file of the example's split; each has a mask."""
        values = {"edit_prompt": example.caption, **example.cells}
        files = {
            f"input_image{self.suffix}": example.source.data,
            f"edited_image{self.suffix}": example.winner.picture.data,
            "mask_image.png": example.mask,
            "json": (dumps(values, ensure_ascii=False) + "\n").encode(),
        }
        self._shards.of(example.split).add(example.name, files)

    def close(self) -> None:
        """Writes the last tar file of each split."""
        self._shards.close()

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that say how samples are loaded."""
        suffix = f".{facts['image_format']}"
        return (
            "    import webdataset\n"
            '    samples = webdataset.WebDataset("FOLDER/train-00000.tar", shardshuffle=False)\n\n'
            f"Fields: `input_image{suffix}`, `edited_image{suffix}`, `mask_image.png`, `json` with "
            "`edit_prompt`."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what loaders of tar files make of each sample."""
        for split in exported.splits:
            for path in exported.names(""):
                if path.startswith(f"{split}-") and path.endswith(".tar"):
                    yield from cls._samples(exported, split, path)

    @classmethod
    def _samples(cls, exported: Exported, split: str, path: str) -> Iterator[Finding]:
        if not _is_whole(exported, path):
            yield Fault(f"{path}: the file breaks off: its last samples are lost")
            return
        met: set[str] = set()
        for key, sample in _read(exported, path):
            if key in met:
                yield Fault(f"{path}: its files are not together, or are there twice", split, key)
            else:
                yield finding(cls._fault(exported, key, sample), split, key)
            met.add(key)

    @classmethod
    def _fault(cls, exported: Exported, key: str, sample: Mapping[str, bytes]) -> str | None:
        words = (f"input_image{exported.suffix}", f"edited_image{exported.suffix}")
        wrong = {*words, "mask_image.png", "json"} ^ set(sample)
        if wrong:
            return (
                f"its fields are not those of every sample ({', '.join(sorted(wrong))}): loaders "
                "refuse samples that differ, and merge those with a dot in their names"
            )
        try:
            values: Any = loads(sample.get("json", b""))
        except ValueError:
            return "its json cannot be read"
        return wrong_text(values.get("edit_prompt"), "edit_prompt") or unfit(
            *(sample.get(word) for word in words),
            key=key,
            is_reversed=exported.is_reversed,
            words=words,
        )


class _Tars:
    """Tar files of one split, of bounded size."""

    def __init__(self, destination: Destination, split: str) -> None:
        self._destination, self._split = destination, split
        self._number = self._bytes = 0
        self._file = destination.scratch_file()
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, files: Mapping[str, bytes]) -> None:
        """Adds a sample; owners and times are those of nobody and never, so that bytes repeat."""
        if self._tar is None:
            self._tar = tarfile.open(self._file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        for ending, data in files.items():
            info = tarfile.TarInfo(f"{name}.{ending}")
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))
            self._bytes += len(data)
        if self._bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Writes the tar file to its place."""
        if self._tar is None:
            return
        self._tar.close()
        self._destination.take(self._file, f"{self._split}-{self._number:05d}.tar")
        self._file, self._tar, self._bytes = self._destination.scratch_file(), None, 0
        self._number += 1


def _is_whole(exported: Exported, path: str) -> bool:
    """Tells whether a tar file has its end; loaders take what breaks off between files as it is."""
    with open_uri(exported.storage.at(path)) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_BYTES))
        return not any(file.read()) and size % tarfile.RECORDSIZE == 0


def _read(exported: Exported, path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields samples as loaders do: neighbours whose names are equal up to the first dot."""
    key, sample = "", dict[str, bytes]()
    with open_uri(exported.storage.at(path)) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            stem, _, ending = member.name.rpartition("/")[2].partition(".")
            if sample and stem != key:
                yield key, sample
                sample = {}
            key = stem
            content = tar.extractfile(member)
            sample[ending] = content.read() if content is not None else b""
    if sample:
        yield key, sample
