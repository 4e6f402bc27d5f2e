"""What an actor does at the same time, and what never: no model call beside another."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.helpers import Helpers, Share, map_ahead
from overpaint.cluster.worker.lane import ActorLane
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.cluster.worker.model_thread import ModelThread, Turn
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.operator import ModelOperator, Operator
from overpaint.pipeline.stage import Stage

NUMBER = Column("number", pa.int64(), "given")
DOUBLE = c.score("double", "twice the number")
PATIENCE_S = 60


class Meeting:
    """A place where some steps wait for each other; the test fails where they do not meet."""

    def __init__(self, parties: int):
        self._barrier = threading.Barrier(parties)

    def wait(self):
        self._barrier.wait(PATIENCE_S)


class Doubler(ModelOperator[dict[str, Any], int, float]):
    """Doubles; the model holds what the steps call on their way."""

    kind: ClassVar[Any] = "score"

    batch_size: int = 1

    @property
    def inputs(self):
        return (NUMBER,)

    @property
    def outputs(self):
        return (DOUBLE,)

    def load(self):
        return {}

    def prepare(self, row, model):
        model.get("prepare", lambda number: None)(row["number"])
        return row["number"]

    def infer(self, inputs, model):
        for number in inputs:
            model.get("infer", lambda number: None)(number)
        return [2.0 * number for number in inputs]

    def answer(self, row, number, double, model):
        model.get("answer", lambda number: None)(number)
        return {"double": double}


@pytest.fixture
def actor():
    """The threads of an actor."""
    models, helpers = ModelThread(), Helpers()
    yield models, helpers
    models.close()
    helpers.close()


def doubled(actor, operator, model, *numbers, order=0, side_px=1024):
    stage = Stage(operator=operator, name="double")
    loaded = {"double": LoadedOperator(operator, model)}
    lane = ActorLane(Turn(order), *actor)
    sizes = {"width_px": side_px, "height_px": side_px}
    return run_stages([stage], loaded, [{"number": n, **sizes} for n in numbers], lane=lane)


def test_next_batch_is_prepared_while_the_model_is_at_work(actor):
    meeting = Meeting(2)
    model = {
        "prepare": lambda number: meeting.wait() if number == 2 else None,
        "infer": lambda number: meeting.wait() if number == 1 else None,
    }
    assert [row["double"] for row in doubled(actor, Doubler(), model, 1, 2).rows] == [2.0, 4.0]


def test_last_batch_is_answered_while_the_model_is_at_work(actor):
    meeting = Meeting(2)
    model = {
        "answer": lambda number: meeting.wait() if number == 1 else None,
        "infer": lambda number: meeting.wait() if number == 2 else None,
    }
    assert [row["double"] for row in doubled(actor, Doubler(), model, 1, 2).rows] == [2.0, 4.0]


def test_rows_of_a_batch_are_prepared_at_the_same_time(actor):
    meeting = Meeting(2)
    model = {"prepare": lambda number: meeting.wait()}
    found = doubled(actor, Doubler(batch_size=2), model, 1, 2)
    assert [row["double"] for row in found.rows] == [2.0, 4.0]


def test_small_pictures_are_prepared_in_the_thread_of_their_task(actor):
    threads: set[str] = set()
    model = {"prepare": lambda number: threads.add(threading.current_thread().name)}
    doubled(actor, Doubler(), model, *range(8), side_px=64)
    assert threads == {threading.current_thread().name}


def test_next_task_is_prepared_while_the_model_works_for_the_one_before(actor):
    meeting = Meeting(2)
    model = {
        "prepare": lambda number: meeting.wait() if number == 2 else None,
        "infer": lambda number: meeting.wait() if number == 1 else None,
    }
    with ThreadPoolExecutor() as tasks:
        runs = [
            tasks.submit(doubled, actor, Doubler(), model, number, order=number)
            for number in (1, 2)
        ]
    assert [run.result().rows[0]["double"] for run in runs] == [2.0, 4.0]


def test_models_are_called_in_one_thread_and_never_two_at_a_time(actor):
    threads: set[str] = set()
    inside = threading.Lock()

    def infer(number):
        assert inside.acquire(blocking=False), "two model calls at a time"
        threads.add(threading.current_thread().name)
        inside.release()

    class Whole(Operator[Any]):
        """An operator that says nothing of where its model is used."""

        kind: ClassVar[Any] = "score"
        inputs = property(lambda self: (NUMBER,))
        outputs = property(lambda self: (DOUBLE,))

        def load(self): ...

        def run(self, rows, model):
            for row in rows:
                infer(row["number"])
            return [{"double": 2.0 * row["number"]} for row in rows]

    with ThreadPoolExecutor() as tasks:
        runs = [
            tasks.submit(doubled, actor, operator, {"infer": infer}, *range(50), order=order)
            for order, operator in enumerate((Doubler(), Whole(), Doubler(batch_size=4)))
        ]
    for run in runs:
        assert [row["double"] for row in run.result().rows] == [2.0 * n for n in range(50)]
    assert threads == {"models"}


def test_older_task_goes_first(actor):
    models, _ = actor
    is_busy, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def first():
        is_busy.set()
        assert go_on.wait(PATIENCE_S)

    with ThreadPoolExecutor() as tasks:
        calls = [tasks.submit(models.call, Turn(1), first)]
        assert is_busy.wait(PATIENCE_S)
        for order, name in ((3, "young"), (2, "old")):
            calls.append(tasks.submit(models.call, Turn(order), seen.append, name))
        while models.num_waiting < 2:
            pass
        go_on.set()
        for call in calls:
            call.result(PATIENCE_S)
    assert seen == ["old", "young"]


def test_error_of_a_model_call_rises_where_it_was_made(actor):
    models, _ = actor
    for error in (ValueError("bad"), SystemExit(3)):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)):
            models.call(Turn(), fail)
    assert models.call(Turn(), lambda: "goes on") == "goes on"


def test_batch_that_cannot_go_on_stops_its_task(actor):
    def stop(number):
        raise StoppedError("the disk is full")

    with pytest.raises(StoppedError, match="the disk is full"):
        doubled(actor, Doubler(), {"answer": stop}, *range(8))


def test_closed_thread_interrupts_its_call_and_refuses_those_that_wait():
    models, is_busy = ModelThread(), threading.Event()

    def forever():
        is_busy.set()
        while True:
            pass

    with ThreadPoolExecutor() as tasks:
        running = tasks.submit(models.call, Turn(), forever)
        assert is_busy.wait(PATIENCE_S)
        waiting = tasks.submit(models.call, Turn(), lambda: None)
        while models.num_waiting < 1:
            pass
        models.close()
    assert isinstance(running.exception(), KeyboardInterrupt)
    assert isinstance(waiting.exception(), StoppedError)
    with pytest.raises(StoppedError):
        models.call(Turn(), lambda: None)


def test_stopped_actor_begins_no_batch_that_uses_no_model():
    models, helpers, begun = ModelThread(), Helpers(), []
    lane = ActorLane(Turn(pixels=64), models, helpers)  # small pictures: in this thread

    def begin(batch):
        begun.append(batch)
        models.close()

    with pytest.raises(StoppedError):
        lane.batches(begin, [0, 1, 2])
    assert begun == [0]
    helpers.close()


def test_stage_seconds_leave_out_what_is_waited_for(actor):
    models, _ = actor
    is_busy, go_on = threading.Event(), threading.Event()

    def hold():
        is_busy.set()
        assert go_on.wait(PATIENCE_S)

    with ThreadPoolExecutor() as tasks:
        other = tasks.submit(models.call, Turn(0), hold)
        assert is_busy.wait(PATIENCE_S)
        run = tasks.submit(doubled, actor, Doubler(), {}, 1, order=1)
        while models.num_waiting < 1:
            pass
        threading.Timer(1.0, go_on.set).start()
        other.result(PATIENCE_S)
    assert run.result().seconds["double"] < 0.9


def test_share_holds_no_more_than_its_places_and_lets_a_heavy_one_in():
    share, lock = Share(3), threading.Lock()
    taken: list[int] = []
    most = 0

    def take(places):
        nonlocal most
        with share.taken(places):
            with lock:
                taken.append(places)
                most = max(most, sum(min(places, 3) for places in taken))
            with lock:
                taken.remove(places)

    with ThreadPoolExecutor(8) as users:
        list(users.map(take, [1, 2, 3, 7] * 50))
    assert most <= 3


def test_large_pictures_are_worked_on_a_few_at_a_time(actor):
    _, helpers = actor
    lock, inside, most = threading.Lock(), 0, 0

    def work(row):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    helpers.rows(work, range(200), pixels=100_000_000)
    assert most == 1


def test_map_ahead_keeps_the_order_and_no_more_under_way_than_it_may():
    lock, under_way, most = threading.Lock(), 0, 0

    def call(number):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(map_ahead(pool, call, range(100), 2)) == list(range(100))
    assert most <= 2


def test_model_operator_with_a_run_of_its_own_is_refused():
    with pytest.raises(TypeError, match="Odd: a ModelOperator has infer"):
        type("Odd", (Doubler,), {"run": lambda self, rows, model: []})
