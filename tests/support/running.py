"""Running one operator on a batch of rows, as a worker does."""

from collections.abc import Mapping, Sequence
from typing import Any

from overpaint.cluster.worker.batch import Failed, run_batch, run_stages
from overpaint.cluster.worker.helpers import Helpers
from overpaint.cluster.worker.lane import ActorLane
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.cluster.worker.model_thread import ModelThread, Turn
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.stage import Stage


def outcomes(operator: Operator, rows: Sequence[Mapping[str, Any]], model: Any = None) -> list[Any]:
    """Runs a batch: for each row its new columns, `Rejected` or `Failed`."""
    loaded = LoadedOperator.load(operator) if model is None else LoadedOperator(operator, model)
    return run_batch(loaded, rows)


def failure_code(operator: Operator, row: Mapping[str, Any], model: Any = None) -> str:
    """Runs one row that cannot be done and returns its error code."""
    (outcome,) = outcomes(operator, [row], model)
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def rows_in_actor(operator: Operator, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs rows through one stage in the threads of an actor, several batches at a time."""
    models, helpers = ModelThread(), Helpers()
    stage = Stage(operator=operator)
    try:
        loaded = {stage.name: LoadedOperator.load(operator)}
        lane = ActorLane(Turn(), models, helpers)
        return run_stages([stage], loaded, rows, lane=lane).rows
    finally:
        models.close()
        helpers.close()
