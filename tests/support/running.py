"""Running one operator on a batch of rows, as a worker does."""

from collections.abc import Mapping, Sequence
from typing import Any

from overpaint.cluster.worker.batch import Failed, run_batch
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.pipeline.operator import Operator


def outcomes(operator: Operator, rows: Sequence[Mapping[str, Any]], model: Any = None) -> list[Any]:
    """Runs a batch: for each row its new columns, `Rejected` or `Failed`."""
    loaded = LoadedOperator.load(operator) if model is None else LoadedOperator(operator, model)
    return run_batch(loaded, rows)


def failure_code(operator: Operator, row: Mapping[str, Any], model: Any = None) -> str:
    """Runs one row that cannot be done and returns its error code."""
    (outcome,) = outcomes(operator, [row], model)
    assert isinstance(outcome, Failed), outcome
    return outcome.code
