"""Memory of an export hardly grows with its rows: some hundred bytes each, and no picture."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from export_runs import SCHEMA, exported, key_of, noise, row, write_finished
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

folder, num_rows = Path(sys.argv[1]), int(sys.argv[2])
drawn = [row(number, source=noise(number, 6, 4), edited=noise(number + 1, 6, 4) | 1)
         for number in range(400)]
run = RunFolder(Storage(write_finished(folder, drawn)))
few = run.read_part("manifest", 0).to_pylist()
for part, start in enumerate(range(0, num_rows, 4096)):
    rows = [
        few[number % 400] | {"key": key_of(str(number)), "instruction": f"change {number}"}
        for number in range(start, min(start + 4096, num_rows))
    ]
    run.write_part("manifest", part, pa.Table.from_pylist(rows, SCHEMA))
facts = exported(run.storage.uri, folder / "x", "ip2p", split="train=0.9,test=0.1")
assert facts["examples"] == num_rows, facts
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_export_of_100_000_rows_takes_the_memory_of_40_000(tmp_path):
    peaks_mib = {}
    for num_rows in (40_000, 100_000):
        (tmp_path / str(num_rows)).mkdir()
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / str(num_rows)), str(num_rows)]
        support = f"{__file__.rpartition('/')[0]}/../support"
        ended = subprocess.run(
            command, env={"PYTHONPATH": support}, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        peaks_mib[num_rows] = int(ended.stdout)
    # The index has 110 bytes a row, and is sorted; from 16,000 rows on, kept parts are full.
    assert peaks_mib[100_000] - peaks_mib[40_000] < 40, peaks_mib
