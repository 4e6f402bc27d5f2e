"""Plans of toy operators, drawn sources, and runs of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from overpaint.operators.fetch import Fetch
from overpaint.operators.store import Store
from overpaint.pipeline.images import Picture, encode
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, RunFolder
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.manifest import finish_part
from overpaint.pipeline.runs.planning import write_plan
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage
from toy_operators import ToyCaption, ToyEdit, ToyInvert, ToyScore

ONE_GROUP = ("all", "all", "all", "all", "all", "all")
TWO_GROUPS = ("read", "read", "edit", "edit", "edit", "edit")


def toy_plan(layout: Sequence[str] = ONE_GROUP, **fields: Any) -> Plan:
    """Fetch, caption, invert, edit, store, score; `layout` names the group of each."""
    operators = [Fetch(), ToyCaption(), ToyInvert(), ToyEdit(), Store(), ToyScore()]
    names = ["fetch", "caption", "invert", "edit", "store", "score"]
    stages = [
        Stage(operator=operator, name=name, group=group)
        for operator, name, group in zip(operators, names, layout, strict=True)
    ]
    return Plan(**{"name": "toy", "stages": stages, "task_rows": 4, **fields})


def picture(seed: int, width: int = 12, height: int = 10) -> Picture:
    """Random pixels, with one channel brighter than the others."""
    pixels = np.random.default_rng(seed).integers(0, 200, (height, width, 3), dtype=np.uint8)
    pixels[..., seed % 3] += 55
    return Picture(pixels)


def write_sources(folder: Path, num: int) -> list[str]:
    """Draws `num` sources in two sizes; returns their paths relative to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"source-{i:03d}.png" for i in range(num)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(encode(picture(index, width=12 + 4 * (index % 2))))
    return names


def table_of(rows: Sequence[dict[str, Any]], base_uri: object = "/nowhere") -> Input:
    """An input of the given rows."""
    return Input.of(pa.Table.from_pylist(list(rows)), str(base_uri))


def planned_run(plan: Plan, given: Input, run_uri: object) -> Run:
    """A run whose plan is written."""
    run = Run(plan, str(run_uri), given.base_uri)
    write_plan(plan, given, run.folder)
    return run


def finish(run: Run) -> None:
    """Writes the manifest parts of a run whose rows have all ended."""
    for part in run.folder.parts("plan"):
        finish_part(run.folder, run.plan, part)


def outputs(run_uri: str) -> dict[str, bytes]:
    """Every byte that equal runs share, by path."""
    storage = Storage(run_uri)
    paths = [path for name in (*OBJECT_FOLDERS, "manifest") for path in storage.list(name)]
    return {path: storage.read(path) for path in paths}


def manifest_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of a finished run, in order."""
    return list(folder.rows())


def plan_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The planned rows of a run, in order."""
    return list(folder.rows(folder="plan"))
