"""Run folders for the report's tests: real Parquet parts, real pictures, all ways to end."""

import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.identity import KEYS_VERSION
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.recipe import recipe_of
from overpaint.pipeline.runs.folder import RECIPE, REPORT, STATS, RunFolder
from overpaint.pipeline.runs.manifest import apply_policy, manifest_schema
from overpaint.pipeline.storage.store import Storage
from PIL import Image, ImageDraw

POLICY = {"background_psnr_db": {"min": 25}, "clip_sim_dir": {"min": 0.1, "max": 0.9}}
HOSTILE = '</script><img src=x onerror=alert(1)> & <b>"bold"</b>'
PART_ROWS = 4096
_OWN = (
    pa.field("clip_sim_dir", pa.float64()),
    pa.field("background_psnr_db", pa.float64()),
    pa.field("truth_gain", pa.float64()),
    pa.field("truth_success", pa.bool_()),
    pa.field("oracle_success", pa.bool_()),
    pa.field("lmm_status", pa.string()),
    pa.field("in_target_uri", pa.string()),
    pa.field("in_shot_at", pa.timestamp("us")),
)
SCHEMA = pa.schema([*(pa.field(column.name, column.type) for column in c.MANIFEST), *_OWN])
EDIT_TYPES = ("color", "replace", "style")


def planned_row(number: int) -> dict[str, Any]:
    """Returns an accepted row, with scores that follow from its number."""
    key = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    gain = ((number * 37) % 100) / 100
    row = dict.fromkeys(SCHEMA.names)
    return row | {
        "key": key,
        "source_uri": f"images/{number % 40:03d}.png",
        "source_sha256": key * 2,
        "group_id": f"{number % 40:016x}",
        "candidate": 0,
        "instruction": f"make the circle number {number} blue",
        "edit_type": EDIT_TYPES[number % 3],
        "method": "toy",
        "seed": number,
        "edited_uri": f"images/{number % 40:02x}/{number % 40:03d}.png",
        "mask_uri": f"masks/{number % 40:02x}/{number % 40:03d}.png",
        "fingerprint": "0123456789abcdef",
        "clip_sim_dir": 0.2 + ((number * 13) % 50) / 100,
        "background_psnr_db": 26.0 + (number * 7) % 12,
        "truth_gain": gain,
        "truth_success": gain >= 0.5,
        "oracle_success": number % 20 != 5,
        "lmm_status": "ok",
        "in_target_uri": f"targets/{number}.png" if number % 25 else None,
    }


def failed(row: dict[str, Any], stage: str, code: str, message: str) -> dict[str, Any]:
    """Returns the row as one that failed in a stage."""
    scores = dict.fromkeys(field.name for field in _OWN if not field.name.startswith("in_"))
    ending = {"status": "failed", "stage": stage, "error_code": code, "error_message": message}
    return row | scores | ending | {"edited_uri": None, "mask_uri": None}


def declined(row: dict[str, Any], stage: str, code: str, message: str) -> dict[str, Any]:
    """Returns the row as one that a stage rejected."""
    return failed(row, stage, code, message) | {"status": "rejected"}


def write_run(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    name: str = "recolor",
    num_pending: int = 0,
    size_px: tuple[int, int] = (64, 64),
    plan: Plan | None = None,
) -> RunFolder:
    """Writes a run folder with a manifest of rows, judged by `POLICY`, and 40 pictures.

    Args:
        folder: folder for the run and its input.
        rows: rows of the manifest.
        name: name of the recipe.
        num_pending: number of planned rows that have not ended.
        size_px: size of the pictures.
        plan: plan whose columns the manifest has besides, and whose recipe is recorded.
    """
    run = RunFolder(Storage(str(folder / "run")))
    policy = Policy.model_validate(POLICY)
    judged_rows = [apply_policy(row, policy) for row in rows]
    parts = [judged_rows[i : i + PART_ROWS] for i in range(0, len(judged_rows), PART_ROWS)]
    schema = SCHEMA if plan is None else pa.unify_schemas([SCHEMA, manifest_schema(plan, SCHEMA)])
    for part, some in enumerate(parts):
        table = pa.Table.from_pylist(some, schema)
        run.write_part("manifest", part, table)
        run.write_part("plan", part, table.select(["key", "source_uri"]))
    if num_pending:
        keys = [f"{number:032x}" for number in range(num_pending)]
        run.write_part("plan", len(parts), pa.table({"key": keys, "source_uri": keys}))
    recipe = recipe_of(plan) if plan else {"name": name, "stage": [{"operator": "edit"}]}
    _write_records(run, folder, name, {**recipe, "policy": POLICY})
    for number in range(40):
        draw_edit(folder, number, size_px)
    return run


def draw_edit(folder: Path, number: int, size_px: tuple[int, int]) -> None:
    """Draws a source with a circle, the circle's mask, and the circle in another colour."""
    width, height = size_px
    box = [width // 4, height // 4, width // 4 + width // 2, height // 4 + height // 2]
    places = {
        folder / "input" / "images" / f"{number:03d}.png": ("RGB", (240, 230, 210), (210, 60, 50)),
        folder / "run" / "masks" / f"{number:02x}" / f"{number:03d}.png": ("L", 0, 255),
        folder / "run" / "images" / f"{number:02x}" / f"{number:03d}.png": (
            "RGB",
            (240, 230, 210),
            (40, 90, 200),
        ),
    }
    for path, (mode, ground, colour) in places.items():
        image = Image.new(mode, size_px, ground)
        ImageDraw.Draw(image).ellipse(box, fill=colour)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def _write_records(run: RunFolder, folder: Path, name: str, recipe: dict[str, Any]) -> None:
    run.write_json(
        RECIPE,
        {
            "name": name,
            "fingerprint": "0123456789abcdef",
            "fingerprints": {"fetch": "aaaa", "edit": "bbbb"},
            "revisions": {"edit": {"checkpoint": "sha256:cccc"}},
            "input": str(folder / "input"),
            "base_uri": str(folder / "input"),
            "recipe": recipe,
            "keys_version": KEYS_VERSION,
            "versions": {"python": "3.11.7", "overpaint": "0.2.0"},
        },
    )
    run.write_json(
        STATS,
        {
            "stages": {
                "fetch": {"seconds": 0.4, "rows": 100},
                "edit": {"seconds": 222.0, "rows": 100},
            },
            "wall_s": 240.5,
            "rows_per_s": 0.41,
            "num_tasks": 4,
            "started_at": "2026-11-23T15:30:00+00:00",
            "finished_at": "2026-11-23T15:34:00+00:00",
            "hosts": ["machine-1"],
        },
    )


class _Words(HTMLParser):
    """A parser that collects a page's words outside scripts and styles, and its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)


class Page:
    """A report as its reader sees it."""

    def __init__(self, run: RunFolder) -> None:
        self.html = run.storage.read(REPORT).decode()
        reader = _Words()
        reader.feed(self.html)
        self.text = " ".join(" ".join(reader.words).split())
        self.attributes = reader.attributes

    def inlined(self, tag: str) -> str:
        """Returns the content of the page's only plain `<tag>`."""
        (found,) = re.findall(rf"<{tag}>(.*?)</{tag}>", self.html, re.DOTALL)
        return found

    @property
    def data(self) -> dict[str, Any]:
        """The data that the page's script shows."""
        pattern = r'<script type="application/json" id="data">(.*?)</script>'
        (found,) = re.findall(pattern, self.html, re.DOTALL)
        return json.loads(found)
