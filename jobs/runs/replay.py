"""Replay of one row of a run in this process, and comparison of the bytes."""

import io
import re
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import existing_run
from overpaint.pipeline.storage.store import Storage
from PIL import Image


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """Outcome of a row that was done a second time.

    Attributes:
        row: every value of the row that can leave the process; images as bytes.
        sha256: hash of the edited image; None where there is none.
        recorded_sha256: hash in the manifest; None where the row has no image.
        unrepeatable: names of the row's stages that need not make the same pixels again.
    """

    row: dict[str, Any]
    sha256: str | None
    recorded_sha256: str | None
    unrepeatable: tuple[str, ...] = ()

    @property
    def images(self) -> dict[str, bytes]:
        """Every image of the row, by a file name for it."""
        images: dict[str, bytes] = {}
        for name, value in self.row.items():
            if isinstance(value, bytes):
                images[f"{name}.{_ending(value)}"] = value
            elif isinstance(value, list):
                for place, part in enumerate(v for v in value if isinstance(v, bytes)):
                    images[f"{name}-{place}.{_ending(part)}"] = part
        return images

    @property
    def values(self) -> dict[str, Any]:
        """Every value of the row that is text or numbers: no images, no state of a model."""
        return {name: value for name, value in self.row.items() if _is_plain(value)}

    @property
    def ending(self) -> str | None:
        """The end of a row that failed or was rejected, in words; None for one that is edited."""
        if self.row.get("status") is None:
            return None
        return "{status} in {stage}: {error_code}: {error_message}".format(**self.row)

    @property
    def is_equal(self) -> bool:
        """True where the bytes are those of the run."""
        return self.sha256 == self.recorded_sha256


def replay(folder: RunFolder, key: str) -> ReplayedRow:
    """Takes one row through every stage but `store`, in this process.

    Args:
        folder: run folder.
        key: key of the row, or enough of its first digits.

    Raises:
        UsageError: there is no run, or not exactly one such row.
    """
    run = existing_run(folder)
    part, planned = _planned(folder, key)
    stages = [stage for stage in run.plan.stages if stage.operator.kind != "store"]
    loaded = {stage.name: LoadedOperator.load(stage.operator) for stage in stages}
    # Without the run's folder nothing is kept there, and a server is asked anew.
    (row,), _ = run_stages(stages, loaded, [{**planned, **run.constants, "run_uri": None}])
    outputs = [column for stage in stages for column in stage.outputs]
    live = {column.name for column in outputs if column.scope == "group"}
    values = {name: value for name, value in row.items() if name not in live}
    stored = {uri: image for image, uri in run.plan.stored_images().items()}
    edited = row.get(stored.get(c.EDITED_URI.name, c.EDITED_IMAGE.name))
    return ReplayedRow(
        values,
        sha256(edited) if edited else None,
        _recorded(folder, part, planned["key"]),
        tuple(
            stage.name
            for stage in run.plan.editing_stages()
            if not stage.for_row(planned).operator.reproducible
        ),
    )


def _planned(folder: RunFolder, key: str) -> tuple[int, dict[str, Any]]:
    if re.fullmatch("[0-9a-f]+", key) is None:
        raise UsageError(
            f"{key!r}: not the beginning of a key, which has the digits 0 to 9, a to f"
        )
    is_like = pc.starts_with(pc.field("key"), key)
    rows = [
        (part, row)
        for part, table in folder.tables(None, is_like, folder="plan")
        for row in table.to_pylist()
    ]
    if len(rows) != 1:
        raise UsageError(f"{folder.storage.uri}: {len(rows)} planned rows have a key like {key!r}")
    return rows[0]


def _recorded(folder: RunFolder, part: int, key: str) -> str | None:
    """Returns the hash of the edited image in the manifest; None where there is none yet."""
    if part not in folder.parts("manifest"):
        return None
    table = folder.read_part("manifest", part, ["edited_sha256"], {"key": key})
    return table["edited_sha256"][0].as_py()


def write_images(replayed: ReplayedRow, destination: str) -> list[str]:
    """Writes the images of a row into a folder; returns their names."""
    storage = Storage(destination)
    for name, data in replayed.images.items():
        storage.write(name, data)
    return sorted(replayed.images)


def _ending(data: bytes) -> str:
    """Returns the ending of a file name for an encoded image; `bin` where it is none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return (image.format or "bin").lower().replace("jpeg", "jpg")
    except (OSError, Image.DecompressionBombError):
        return "bin"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return all(part is None or _is_plain(part) for part in parts)
    return isinstance(value, str | int | float)
