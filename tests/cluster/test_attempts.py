"""What counts against a row: an attempt that ended its process, and no other."""

import pytest
from overpaint.cluster.worker.attempts import Attempts
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.storage.store import Storage


def test_attempt_that_raised_does_not_count_against_its_row(tmp_path):
    attempts = Attempts(Storage(str(tmp_path)), "all", 60)
    with pytest.raises(StoppedError), attempts.of_row("a"):
        raise StoppedError("the disk is full")
    assert attempts.crash_count("a") == 0


def test_attempt_that_left_its_marker_counts_and_makes_its_row_suspect(tmp_path):
    storage = Storage(str(tmp_path))
    attempts = Attempts(storage, "all", 60)
    storage.write("_work/attempts/all/row-a/0", b"")
    assert attempts.suspected_poison(["a", "b"]) == {"a"}
    assert attempts.crash_count("a") == 1
    with attempts.of_row("a"):
        pass
    assert attempts.crash_count("a") == 0
    assert attempts.suspected_poison(["a", "b"]) == set()
