"""Runs of cases in this process, in which stages that several cases begin with run once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.jobs.bench.methods.cases import Case
from overpaint.jobs.bench.methods.drawn_rows import Drawing, DrawnEdits
from overpaint.operators.caption import Caption
from overpaint.pipeline.columns import Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import digest
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.costs import cost_of
from overpaint.pipeline.stage import Stage

READER_PREFIX = "reader_"
"""Start of the columns that the reader of edited pictures writes."""
_CAPTION = Caption(checkpoint="papercut", batch_size=16, max_new_tokens=28)
_READER = Stage(
    operator=_CAPTION,
    name="reader",
    reads={"source_image": "edited_image"},
    prefix=READER_PREFIX,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRun:
    """Rows of a case that went through its stages.

    Attributes:
        rows: rows with all columns.
        cost: network evaluations of all rows, before the truth.
        seconds: CPU seconds of all stages before the truth, shared ones included.
    """

    rows: Sequence[Row]
    cost: Cost
    seconds: float


@dataclass(frozen=True, slots=True)
class _Shared:
    """Outputs of a stage on the rows of one dataset.

    Attributes:
        values: outputs of each row by the source's URI; None for a row that has ended.
        seconds: CPU seconds that it took.
    """

    values: Mapping[str, Mapping[str, Any] | None]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Outputs that a row's stages need not compute again, see `CachedOutputs`."""

    by_stage: Mapping[str, Mapping[str, Any]]

    def of(self, stage: Stage, row: Row) -> Mapping[str, Any] | None:
        del row
        return self.by_stage.get(stage.name)


@dataclass(slots=True)
class Runner:
    """Models that stay loaded, and what stages have answered, for cases in turn.

    Attributes:
        drawing: datasets.
    """

    drawing: Drawing
    _loaded: dict[str, LoadedOperator] = field(default_factory=dict[str, LoadedOperator])
    _shared: dict[str, _Shared] = field(default_factory=dict[str, _Shared])

    def run(self, case: Case, edits: DrawnEdits) -> CaseRun:
        """Runs the rows of some edits through a case's stages, and reads the edited pictures."""
        rows = self.drawing.rows(edits, case.conditions, case.plan)
        stages = [stage for stage in case.plan.stages if stage.operator.kind != "store"]
        stages.append(_READER)
        chains = _chains(stages, case, edits)
        loaded = {stage.name: self._load(stage.operator) for stage in stages}
        known = {stage.name: self._shared.get(chains[stage.name]) for stage in stages}
        cached: Any = {row["key"]: _known_outputs(known, row) for row in rows}
        started_s = time.process_time()
        done = run_stages(stages, loaded, rows, cached)
        at_work = (time.process_time() - started_s) / sum(done.seconds.values())
        seconds = 0.0
        for stage in stages:
            was = known[stage.name]
            took = done.seconds[stage.name] * at_work + (0.0 if was is None else was.seconds)
            self._shared[chains[stage.name]] = _Shared(_answers(stage, done.rows), took)
            seconds += took if _counts(stage) else 0.0
        return CaseRun(rows=done.rows, cost=cost_of(case.plan, rows, _counts), seconds=seconds)

    def forget(self) -> None:
        """Forgets what stages have answered; models stay."""
        self._shared.clear()

    def _load(self, operator: Operator[Any]) -> LoadedOperator:
        key = f"{type(operator).__qualname__} {operator!r}"
        if key not in self._loaded:
            self._loaded[key] = LoadedOperator.load(operator)
        return self._loaded[key]


def _counts(stage: Stage) -> bool:
    """Tells whether a stage is part of the editing, not of its measurement."""
    return stage.operator.kind not in ("score", "judge") and stage is not _READER


def _chains(stages: Sequence[Stage], case: Case, edits: DrawnEdits) -> dict[str, str]:
    """Returns a digest of each stage with all stages before it, and of the rows.

    Where rows choose their method, the choice decides which of the earlier stages a row takes.
    """
    chosen = [repr(s.operator) for s in case.plan.stages if s.operator.choice_columns]
    so_far: list[Any] = [edits.words(), case.conditions, chosen]
    chains: dict[str, str] = {}
    prints = Plan.model_construct(stages=tuple(stages)).fingerprints()
    for stage in stages:
        so_far = [digest(so_far), prints[stage.name], stage.operator.batch_size]
        chains[stage.name] = digest(so_far)
    return chains


def _known_outputs(known: Mapping[str, _Shared | None], row: Row) -> _Outputs:
    by_stage: dict[str, Mapping[str, Any]] = {}
    for name, shared in known.items():
        values = None if shared is None else shared.values[row["source_uri"]]
        if values is not None:
            by_stage[name] = values
    return _Outputs(by_stage)


def _answers(stage: Stage, rows: Sequence[Row]) -> dict[str, Mapping[str, Any] | None]:
    names = stage.output_names
    return {
        row["source_uri"]: {n: row[n] for n in names} if all(n in row for n in names) else None
        for row in rows
    }
