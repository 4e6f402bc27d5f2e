"""Network evaluations that the loaded models of an actor have counted."""

from collections.abc import Iterable, Mapping
from typing import Any

from overpaint.pipeline.cost import Cost


class EvaluationCounter:
    """Counter of what models spend from task to task; a model that stages share counts once.

    Args:
        models: what the operators' `load` returned.
    """

    def __init__(self, models: Iterable[Any]) -> None:
        self._before = _total(models)

    def since(self, models: Iterable[Any]) -> dict[str, int]:
        """Returns the evaluations since they were last asked for, by kind.

        Args:
            models: those of before, and others that have been loaded since.
        """
        now, before = _total(models), self._before
        self._before = now
        spent = {kind: number - before.get(kind, 0) for kind, number in now.items()}
        return {kind: number for kind, number in spent.items() if number}


def _total(models: Iterable[Any]) -> dict[str, int]:
    found: dict[int, Cost] = {}
    for model in models:
        # An edit whose rows choose their method has several.
        for one in model.values() if isinstance(model, Mapping) else [model]:
            if isinstance(spent := getattr(one, "spent", None), Cost):
                found[id(one)] = spent
    return sum(found.values(), Cost()).counts()
