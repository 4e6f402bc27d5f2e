"""Figures of a case on one type of edit."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from overpaint.jobs.bench.methods.cases import Case
from overpaint.jobs.bench.methods.drawn_rows import DrawnEdits
from overpaint.jobs.bench.methods.running import READER_PREFIX, CaseRun
from overpaint.operators.framing.masks import binarise
from overpaint.pipeline.columns import Row
from overpaint.pipeline.images import decode_mask
from overpaint.pipeline.recipes.method_table import Cell


def cell_of(case: Case, edits: DrawnEdits, fingerprint: str, run: CaseRun) -> Cell:
    """Returns the cell of a case that has run."""
    from overpaint.jobs.training.caption import attributes_of

    rows, number = run.rows, len(run.rows)
    ended = [row for row in rows if row.get("status") is None]
    read = [
        attributes_of(row[f"{READER_PREFIX}caption"]) == attributes_of(row["target_prompt"])
        for row in ended
    ]
    return Cell(
        recipe=case.recipe,
        method=case.method,
        edit_type=edits.edit_type,
        mask=case.mask,
        training=case.training,
        split=edits.split,
        seed=edits.seed,
        rows=edits.rows,
        fingerprint=fingerprint,
        success=sum(bool(row["truth_success"]) for row in ended) / number,
        oracle=sum(bool(row["oracle_success"]) for row in ended) / number,
        gain=_median([row["truth_gain"] for row in ended]),
        outside_psnr_db=_median([row["truth_outside_psnr_db"] for row in ended]),
        attributes_right=sum(read) / number,
        mask_iou=_mask_iou(ended) if case.mask == "found" else None,
        evaluations={kind: count / number for kind, count in run.cost.counts().items()},
        seconds=run.seconds / number,
        failed=number - len(ended),
        machine=_machine(),
    )


def _machine() -> str:
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"
    return f"{where}, torch {torch.__version__}"


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _mask_iou(rows: Sequence[Row]) -> float | None:
    """Returns the mean IoU of the masks that were found and the true ones."""
    return fmean(_iou(row) for row in rows) if rows else None


def _iou(row: Row) -> float:
    true: Any = Path(row["base_uri"]) / row["in_mask_uri"]
    size = row["width_px"], row["height_px"]
    found, wanted = (
        binarise(decode_mask(data, *size)) > 0 for data in (row["mask_image"], true.read_bytes())
    )
    return float(np.sum(found & wanted) / max(1, np.sum(found | wanted)))
