"""One runner a run: the second is refused, a dead one is taken over."""

import json
import multiprocessing
import os
import platform
import time

import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.lease import LEASE, LeaseTimings, acquire_lease, has_conditional_writes
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import local_path

QUICK = LeaseTimings(heartbeat_s=0.05, expiry_s=0.5, settle_s=0.05)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(Storage(str(tmp_path)))


def _is_refused(folder):
    with pytest.raises(UsageError, match="another runner"), acquire_lease(folder, QUICK):
        pass


def _wait_for(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_second_runner_is_refused_and_comes_in_after_the_first(folder):
    with acquire_lease(folder, QUICK):
        _is_refused(folder)
    with acquire_lease(folder, QUICK):
        assert folder.read_json(LEASE)["pid"] == os.getpid()
    assert folder.read_json(LEASE) is None


def test_dead_runner_of_this_machine_is_taken_over_at_once(folder):
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    claim = {"holder": "dead", "host": platform.node(), "pid": child.pid, "beat": 3}
    folder.write_json(LEASE, claim)
    with acquire_lease(folder, LeaseTimings(heartbeat_s=10, expiry_s=10_000)):
        assert folder.read_json(LEASE)["holder"] != "dead"


def test_silent_runner_of_another_machine_is_taken_over(folder):
    folder.write_json(LEASE, {"holder": "far", "host": "elsewhere", "pid": 1, "beat": 3})
    with acquire_lease(folder, QUICK):
        assert folder.read_json(LEASE)["host"] == platform.node()


def test_runner_holds_on_while_the_lease_cannot_be_read(folder, caplog):
    with acquire_lease(folder, QUICK):
        path = local_path(folder.storage.at(LEASE))
        claim = path.read_bytes()
        path.unlink()
        path.mkdir()
        _wait_for(lambda: "could not be renewed" in caplog.text)
        path.rmdir()
        path.write_bytes(claim)
        _wait_for(lambda: path.read_bytes() != claim)
        _is_refused(folder)


@pytest.mark.s3
def test_store_without_conditional_writes_still_refuses_the_second(s3):
    folder = RunFolder(Storage(f"{s3}/run"))
    assert not has_conditional_writes(folder.storage)
    with acquire_lease(folder, QUICK):
        _is_refused(folder)


@pytest.mark.s3
def test_store_with_conditional_writes_is_recognised(moto_s3):
    folder = RunFolder(Storage(f"{moto_s3}/run"))
    assert has_conditional_writes(folder.storage)
    with acquire_lease(folder, QUICK):
        _is_refused(folder)
    assert json.dumps(folder.storage.list()) == "[]"
