"""Lanes: the way of a task's calls through the threads of an actor.

An actor has two tasks under way, each in a thread of its own, and a task a few batches of a stage:

    models    infer a1 | infer a2 | infer a3 | ...        one thread; the older task goes first
    helpers   prepare a2, answer a1, prepare a3, ...      decode, frame, paste, encode
    task a    fetch, caption, edit, store, score          and then commits its rows in one step
    task b    fetch, prepare b1, and waits for the models
"""

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from overpaint.cluster.worker.helpers import Helpers
from overpaint.cluster.worker.model_thread import ModelThread, Turn
from overpaint.pipeline.operator import Calls

P = ParamSpec("P")
T = TypeVar("T")
ItemT = TypeVar("ItemT")


class Lane(Calls):
    """Calls of one task in one stage: here one after the other, in the caller's thread.

    Args:
        turn: place of the task, and the stage's clock.
        task: name of the task's result, for those who watch.
    """

    def __init__(self, turn: Turn | None = None, task: str = "") -> None:
        self.turn = turn or Turn()
        self.task = task

    def for_stage(self, pixels: int) -> "Lane":
        """Returns the task's lane through a stage.

        Args:
            pixels: pixels of the largest picture of the task.
        """
        return type(self)(Turn(self.turn.order, pixels), self.task)

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT]) -> list[T]:
        """Calls a function for each batch; returns the results in order."""
        return [call(batch) for batch in batches]


class ActorLane(Lane):
    """Calls of one task in one stage, in the threads of an actor.

    Args:
        turn: place of the task, and the stage's clock.
        models: thread of the models.
        helpers: threads beside it.
        task: name of the task's result.
    """

    def __init__(self, turn: Turn, models: ModelThread, helpers: Helpers, task: str = "") -> None:
        super().__init__(turn, task)
        self._models, self._helpers = models, helpers

    def for_stage(self, pixels: int) -> "ActorLane":
        """Returns the task's lane through a stage."""
        return ActorLane(Turn(self.turn.order, pixels), self._models, self._helpers, self.task)

    def batches(self, call: Callable[[ItemT], T], batches: Iterable[ItemT]) -> list[T]:
        """Calls a function for each batch, a few at a time.

        Raises:
            StoppedError: the run was stopped: no batch is begun that has no use for the models.
        """

        def begin(batch: ItemT) -> T:
            self._models.check()
            return call(batch)

        return self._helpers.batches(begin, batches, self.turn.pixels)

    def model(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a step in the thread of the models."""
        return self._models.call(self.turn, step, *args, **kwargs)

    def beside(self, step: Callable[[ItemT], T], items: Iterable[ItemT]) -> list[T]:
        """Calls a step for each item in the threads beside the models."""
        return self._helpers.rows(step, items, self.turn.pixels)
