"""What counts against a task or a row: an attempt that ended its process, and no other."""

import json
import threading

import pytest
from overpaint.cluster.worker.attempts import Attempts
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.storage.store import Storage


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


def worker(storage):
    """The attempts of a worker process that starts now."""
    return Attempts(storage, "all", 60)


def test_attempt_that_raised_does_not_count_against_its_row(storage):
    with pytest.raises(StoppedError), worker(storage).of_row("a"):
        raise StoppedError("the disk is full")
    assert worker(storage).crashes_of_row("a") == 0


def test_attempt_that_was_under_way_when_its_process_died_counts(storage):
    with worker(storage).of_task(["a", "b"], 2), worker(storage).of_row("a"):
        successor = worker(storage)  # both processes are gone without a word
    assert successor.crashes_of_task(["a", "b"]) == 1
    assert successor.crashes_of_row("a") == 1
    assert successor.crashes_of_row("b") == successor.crashes_of_task(["b", "c"]) == 0


def test_attempt_counts_once_for_each_process_that_died(storage):
    dead = [worker(storage) for _ in range(3)]
    with dead[0].of_row("a"), dead[1].of_row("a"), dead[2].of_row("a"):
        successor = worker(storage)
    assert successor.crashes_of_row("a") == 3


def test_attempts_that_ended_are_forgotten_with_the_next_and_cost_one_request_a_task(storage):
    attempts = worker(storage)
    for task in range(3):
        with attempts.of_task([f"row {task}"], 1):
            (journal,) = storage.list()
            assert len(json.loads(storage.read(journal))) == 1
    with attempts.of_task(["another"], 1):
        successor = worker(storage)
    assert [successor.crashes_of_task([f"row {task}"]) for task in range(3)] == [0, 0, 0]


def test_attempts_that_end_in_order_leave_nothing(storage):
    attempts = worker(storage)
    with attempts.of_task(["a"], 1):
        pass
    attempts.close()
    assert storage.list() == []


def test_attempt_at_two_tasks_at_a_time_counts_both(storage):
    attempts, second_is_in = worker(storage), threading.Event()
    done = threading.Event()

    def second():
        with attempts.of_task(["b"], 2):
            second_is_in.set()
            done.wait(60)

    thread = threading.Thread(target=second)
    with attempts.of_task(["a"], 2):
        thread.start()
        assert second_is_in.wait(60)
        successor = worker(storage)
    done.set()
    thread.join()
    assert successor.crashes_of_task(["a"]) == successor.crashes_of_task(["b"]) == 1
