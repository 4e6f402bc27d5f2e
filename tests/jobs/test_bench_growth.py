"""The time on the CPU by which `bench growth` tells how a run's cost grows."""

import subprocess
import sys

from overpaint.jobs.bench.cpu import tree_cpu_seconds

BURN_S = 0.3
CHILD = f"""
import time
while time.process_time() < {BURN_S}:
    pass
print("burnt", flush=True)
input()
"""


def test_time_of_children_counts_while_they_live_and_afterwards():
    before = tree_cpu_seconds()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD], **pipes) as child:
        assert child.stdout.readline() == "burnt\n"
        alive = tree_cpu_seconds()
        child.communicate("\n")
    # The kernel counts in hundredths of a second, and user and system time apart.
    assert alive - before >= BURN_S - 0.03
    assert tree_cpu_seconds() - before >= BURN_S - 0.03
