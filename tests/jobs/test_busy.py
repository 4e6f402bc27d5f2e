"""The systems of `bench busy` do the same work, so that their times can be compared."""

import pytest
from overpaint.cluster.ray.session import Session, connected
from overpaint.jobs.bench.busy import Case, measure_busy, write_photographs
from overpaint.jobs.bench.busy_model import batches
from overpaint.jobs.bench.busy_systems import BATCH, SYSTEMS, Job

pytestmark = [pytest.mark.ray, pytest.mark.slow]
IMAGES = 2 * BATCH


@pytest.fixture
def photographs(tmp_path):
    write_photographs(tmp_path / "photographs", IMAGES, 64)
    return tmp_path / "photographs"


def test_systems_write_the_same_files_and_call_the_model_as_often(photographs, tmp_path):
    written = {}
    for name, run in SYSTEMS.items():
        job = Job(photographs, tmp_path / name, tmp_path / f"{name}.log", "sleep", 10.0, 1, True)
        with connected(Session(num_cpus=4)):
            run(job)
        written[name] = sorted(path.read_bytes() for path in job.out.rglob("*.png"))
        found = batches(job.log)
        assert len(found) == IMAGES / BATCH
        assert all(batch.end_s - batch.start_s >= 0.01 for batch in found)
    assert len(set(written["loop"])) == IMAGES
    assert written["overpaint"] == written["ray_data"] == written["loop"]


def test_figures_are_those_of_each_system_in_each_case(photographs):
    case = Case(batch_ms=20.0, side_px=64, actors=1, png="default", work="torch")
    rows = list(measure_busy([case], list(SYSTEMS), IMAGES, 1, memory=True))
    assert [row["system"] for row in rows] == list(SYSTEMS)
    for row in rows:
        assert row["batch_ms"] == 20.0
        assert 0 < row["busy_share"] <= 1
        assert row["images_per_s"] > 0
        assert row["peak_mib"] > 0
        assert row["written_mib"] > 0
