"""Gain of batches: a recipe's editor on eight rows in one call, beside one call for each row."""

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.jobs.bench.methods.cases import Case, cases_of, chosen_recipes
from overpaint.jobs.bench.methods.drawn_rows import Drawing, DrawnEdits
from overpaint.pipeline.columns import EDITED_IMAGE, Row
from overpaint.pipeline.identity import digest
from overpaint.pipeline.images import decode
from overpaint.pipeline.recipes.recipe import plan_from_tables
from overpaint.pipeline.runs.costs import cost_of
from overpaint.pipeline.stage import Stage

HOW = """\
Drawn edits that one call takes go through the editor's stages of each recipe of
jobs/recipes/papercut (inversion, fit, finder by the editor, edit), in this process without Ray: in
batches, and row by row, in turn. gain: seconds row by row over seconds in batches, medians of the
turns: of the CPU, whatever else runs, and by the clock, which says something on an idle machine.
least: 1.3 for what does not differentiate, else 0.97. equal: edits with the same pixels both ways,
and the most levels of 255 by which one differs, since a sum's last digit depends on the batch."""

BATCH_SIZE = 8
LEAST_GAIN, LEAST_GAIN_BACKWARD = 1.3, 0.97
_DRAWN_PER_ROW = 2
_BACKWARD = {"backward", "vae_backward", "text_backward", "clip_backward"}
_STEPS = "num_inference_steps"


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingRequest:
    """Recipes to measure.

    Attributes:
        recipes: names of recipes; none for all.
        steps: most steps of each inversion and edit, at least 1.
        turns: measurements of each, of which the medians are taken, at least 1.
        threads: PyTorch's threads, at least 1.
        seed: seed of the edits.
    """

    recipes: Sequence[str] = ()
    steps: int = 10
    turns: int = 5
    threads: int = 1
    seed: int = 0

    def case(self, name: str, text: str, batch_size: int) -> Case | None:
        """Returns a recipe's editing with a batch size; None for one that edits no drawn scenes."""
        fields = {"checkpoint": "papercut", "num_threads": self.threads, "batch_size": batch_size}
        cases = cases_of(name, text, fields)
        if not cases:
            return None
        tables = [
            {**table, _STEPS: min(self.steps, table[_STEPS])} if _STEPS in table else table
            for table in cases[0].tables
        ]
        plan = plan_from_tables({"name": name, "stage": tables}, name)
        return replace(cases[0], plan=plan, tables=tables)


class _Taken(NamedTuple):
    """Seconds of a pass: of the CPU, and by the clock."""

    cpu: float
    clock: float


@dataclass(slots=True)
class _Pass:
    """Rows through the stages of an editor, again and again.

    Attributes:
        stages: the stages.
        rows: rows with all that they read.
        pictures: edited pictures of the first time, encoded.
        turns: seconds of the later times.
    """

    stages: Sequence[Stage]
    rows: Sequence[Row]
    pictures: Sequence[bytes] = ()
    turns: list[_Taken] = field(default_factory=list[_Taken])
    _loaded: Mapping[str, LoadedOperator] = field(default_factory=dict[str, LoadedOperator])

    def run(self) -> None:
        """Runs the rows; the first time loads models, and is not timed.

        Raises:
            RuntimeError: a row failed, or got other bytes than the first time.
        """
        is_first = not self.pictures
        self._loaded = self._loaded or _loaded(self.stages)
        cpu, clock = time.process_time(), time.perf_counter()
        done = run_stages(self.stages, self._loaded, self.rows).rows
        taken = _Taken(time.process_time() - cpu, time.perf_counter() - clock)
        for row in done:
            if row.get("status") is not None:
                raise RuntimeError(f"{row['stage']}: {row['error_code']}: {row['error_message']}")
        pictures = [row[EDITED_IMAGE.name] for row in done]
        if is_first:
            self.pictures = pictures
            return
        if pictures != self.pictures:
            raise RuntimeError("a repeated pass gave other bytes")
        self.turns.append(taken)

    @property
    def median(self) -> _Taken:
        """The median seconds of the timed turns."""
        return _Taken(*(statistics.median(kind) for kind in zip(*self.turns, strict=True)))


def measure_batching(
    request: BatchingRequest, known: Sequence[Mapping[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Measures recipes in turn.

    Args:
        request: recipes, and how they are measured.
        known: figures of an earlier call; what would be measured alike again is taken from them.

    Yields:
        Figures of a recipe: `recipe`, `edit_type`, `rows`, `differentiates`, seconds a row and
        gains by CPU and clock, `least`, `holds`, `equal`, `most_levels`, `machine`, `fingerprint`.

    Raises:
        UsageError: there is no such recipe.
        RuntimeError: an edit failed, or does not repeat its bytes.
    """
    found = {row["fingerprint"]: dict(row) for row in known}
    recipes, drawing = chosen_recipes(request.recipes), Drawing()
    try:
        for name, text in recipes.items():
            batched, single = (request.case(name, text, size) for size in (BATCH_SIZE, 1))
            if batched is None or single is None:
                continue
            made = [request.turns, request.threads, request.seed, _machine()]
            fingerprint = digest([batched.plan.fingerprints(), *made])
            yield found.get(fingerprint) or {
                **_measured(batched, single, request, drawing),
                "machine": _machine(),
                "fingerprint": fingerprint,
            }
    finally:
        drawing.close()


def _measured(
    batched: Case, single: Case, request: BatchingRequest, drawing: Drawing
) -> dict[str, Any]:
    """Returns the figures of a recipe, given with both batch sizes."""
    before, stages = _parted(batched, single)
    rows = _rows_of_a_call(batched, before, request.seed, drawing)
    passes = [_Pass(stages, rows), _Pass(_parted(single, batched)[1], rows)]
    for _ in range(1 + request.turns):
        for one in passes:
            one.run()
    cost = cost_of(batched.plan, rows, lambda stage: stage in stages).counts()
    (cpu, clock), (cpu_single, clock_single) = (one.median for one in passes)
    least = LEAST_GAIN_BACKWARD if _BACKWARD & set(cost) else LEAST_GAIN
    return {
        "recipe": batched.recipe,
        "edit_type": batched.edit_types[0],
        "rows": len(rows),
        "differentiates": bool(_BACKWARD & set(cost)),
        "cpu_s": cpu / len(rows),
        "cpu_s_single": cpu_single / len(rows),
        "gain_cpu": cpu_single / cpu,
        "gain_clock": clock_single / clock,
        "least": least,
        "holds": cpu_single / cpu >= least,
        **_compared(*(one.pictures for one in passes)),
    }


def _parted(case: Case, other: Case) -> tuple[list[Stage], list[Stage]]:
    """Returns the stages before the last edit whose batch size is fixed, and all others till it."""
    pairs = list(zip(case.plan.stages, other.plan.stages, strict=True))
    last = max(place for place, (stage, _) in enumerate(pairs) if stage.operator.kind == "edit")
    parts: dict[bool, list[Stage]] = {True: [], False: []}
    for stage, same in pairs[: last + 1]:
        parts[stage.operator.batch_size == same.operator.batch_size].append(stage)
    return parts[True], parts[False]


def _rows_of_a_call(
    case: Case, before: Sequence[Stage], seed: int, drawing: Drawing
) -> list[dict[str, Any]]:
    """Returns as many drawn rows as a batch has, or fewer, that one call of the edit takes."""
    edits = DrawnEdits(
        edit_type=case.edit_types[0], split="train", seed=seed, rows=_DRAWN_PER_ROW * BATCH_SIZE
    )
    drawn = drawing.rows(edits, case.conditions, case.plan)
    buckets: dict[Hashable, list[dict[str, Any]]] = defaultdict(list)
    for row in run_stages(before, _loaded(before), drawn).rows:
        if row.get("status") is None:
            buckets[case.edit.bucket(row)].append(row)
    return max(buckets.values(), key=len)[:BATCH_SIZE]


def _loaded(stages: Sequence[Stage]) -> dict[str, LoadedOperator]:
    return {stage.name: LoadedOperator.load(stage.operator) for stage in stages}


def _compared(some: Sequence[bytes], others: Sequence[bytes]) -> dict[str, int]:
    """Returns the number of pictures that are equal, and the most levels by which one differs."""
    most = [
        int(np.abs(decode(one).rgb.astype(int) - decode(other).rgb).max())
        for one, other in zip(some, others, strict=True)
    ]
    return {"equal": most.count(0), "most_levels": max(most)}


def _machine() -> str:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{where}, torch {torch.__version__}"
