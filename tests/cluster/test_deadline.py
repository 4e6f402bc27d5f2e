"""Deadlines: what takes too long ends its process, and what does not leaves no trace."""

import subprocess
import sys
import threading

from overpaint.cluster.worker.deadline import deadline, watch

LATE = """
import time
from overpaint.cluster.worker.deadline import deadline
with deadline(60, "the patient one"), deadline(0.2, "the late one"):
    with deadline(0.1, "the quick one"):
        pass
    time.sleep(60)
"""


def test_first_deadline_that_passes_ends_the_process_and_says_which():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=50)
    assert done.returncode == 70
    assert done.stderr == "overpaint: the worker ends itself: the late one took longer than 0.2 s\n"


def test_deadlines_start_no_thread_of_their_own():
    # A thread that is interrupted while it starts another can wait for that one for ever.
    watch()
    before = threading.active_count()
    with deadline(60, "one"), deadline(1e12, "another"):
        assert threading.active_count() == before
