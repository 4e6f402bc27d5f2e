"""Finished runs with given pictures, scores and rights, for tests of exports."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from overpaint.jobs.export.export import export
from overpaint.jobs.export.request import ExportRequest
from overpaint.pipeline import columns as c
from overpaint.pipeline.identity import KEYS_VERSION
from overpaint.pipeline.runs.folder import RECIPE, SUCCESS, RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image

EXTRA = (
    pa.field("lmm_score", pa.float64()),
    pa.field("clip_sim_dir", pa.float64()),
    pa.field("phash_source", pa.int64()),
    pa.field("inverse_instruction", pa.string()),
    pa.field("in_license", pa.string()),
    pa.field("in_mask_uri", pa.string()),
    pa.field("in_references", pa.list_(pa.string())),
)
SCHEMA = pa.schema([*(pa.field(column.name, column.type) for column in c.MANIFEST), *EXTRA])
MODEL = {
    "operator": "edit",
    "name": "edit",
    "method": "instruct_pix2pix",
    "checkpoint": "papercut",
    "terms": "outputs may train models",
}


def noise(seed: int, width: int = 24, height: int = 16) -> np.ndarray:
    """A picture with large blocks of random colours: no two are near-duplicates."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST))


def key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def row(number: int, candidate: int = 0, **values: Any) -> dict[str, Any]:
    """A row of source `number`, whose edit is brighter for each candidate."""
    source = noise(number)
    given = {
        "key": key_of(f"{number} {candidate}"),
        "source": source,
        "edited": np.maximum(source, 60 + 20 * candidate).astype(np.uint8),
        "candidate": candidate,
        "instruction": f"brighten picture {number}",
        "source_prompt": f"picture {number}",
        "target_prompt": f"bright picture {number}",
        "edit_type": ("color", "style")[number % 2],
        "lmm_score": 5.0 + candidate,
        "clip_sim_dir": 0.5,
        "phash_source": 2**62 + 1,
        "status": "accepted",
        "in_license": "CC0",
        "method": "instruct_pix2pix",
        "checkpoint": "papercut",
        "seed": number,
    }
    return given | values


def write_finished(
    folder: Path, rows: list[dict[str, Any]], name: str = "recolor", part_rows: int = 4096
) -> str:
    """Writes a finished run of rows with their pictures, and its input beside it."""
    run = RunFolder(Storage(str(folder / "run")))
    table = [_stored(folder, one) for one in rows]
    for part, start in enumerate(range(0, max(1, len(table)), part_rows)):
        some = table[start : start + part_rows]
        run.write_part("manifest", part, pa.Table.from_pylist(some, SCHEMA))
    statuses = Counter(one["status"] for one in rows)
    counts = {status: statuses[status] for status in ("accepted", "rejected", "failed")}
    run.write_json(SUCCESS, {"planned": len(rows), **counts})
    run.write_json(
        RECIPE,
        {
            "name": name,
            "fingerprint": "0123456789abcdef",
            "base_uri": str(folder / "input"),
            "keys_version": KEYS_VERSION,
            "versions": {"overpaint": "0.2.0"},
            "revisions": {"edit": {"checkpoint": "sha256:cccc"}},
            "recipe": {
                "name": name,
                "terms": "non-commercial",
                "stage": [MODEL],
                "policy": {"lmm_score": {"min": 5}},
            },
        },
    )
    return run.storage.uri


def _stored(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    values = {name: given.get(name) for name in SCHEMA.names}
    source = _save(folder / "input", given["source"])
    values |= {"source_uri": source, "source_sha256": hashlib.sha256(source.encode()).hexdigest()}
    values["group_id"] = values["source_sha256"][:16]
    for name, column, place in (
        ("edited", "edited", "images"),
        ("mask", "mask", "masks"),
        ("editable", "editable_mask", "editable"),
    ):
        if given.get(name) is not None:
            path = f"{place}/{_save(folder / 'run' / place, given[name])}"
            values |= {f"{column}_uri": path}
            if name == "edited":
                data = (folder / "run" / path).read_bytes()
                values["edited_sha256"] = hashlib.sha256(data).hexdigest()
    values["in_references"] = given.get("references") and [
        _save(folder / "input", picture) for picture in given["references"]
    ]
    return values


def _save(folder: Path, pixels: np.ndarray) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).hexdigest()[:20]}.png"
    if not (folder / name).exists():
        Image.fromarray(pixels).save(folder / name)
    return name


def exported(run: str | list[str], to: Path, format_: str, **options: Any) -> dict[str, Any]:
    """Exports runs; `--like` is written behind a blank: `preference dpo`."""
    name, _, like = format_.partition(" ")
    runs = [run] if isinstance(run, str) else run
    return export(runs, str(to), ExportRequest(format=name, like=like or None, **options))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by path."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ranked_run(folder: Path, order: str) -> str:
    """Writes a run whose policy chooses by `lmm_score` in an order."""
    run = write_finished(folder, [row(0, n) for n in range(2)])
    record = json.loads((Path(run) / RECIPE).read_text())
    record["recipe"]["policy"] = {"best": {"by": "lmm_score", "order": order}}
    (Path(run) / RECIPE).write_text(json.dumps(record))
    return run
