"""The systems of `bench busy` do the same work, so that their times can be compared."""

import pytest
from overpaint.jobs.bench.busy import Case, measure_busy, ready, write_photographs
from overpaint.jobs.bench.busy_model import batches
from overpaint.jobs.bench.busy_system import BATCH, Job
from overpaint.jobs.bench.systems import SYSTEMS, find_systems
from overpaint.jobs.cli import main

ACTORS = 2
IMAGES = 2 * BATCH * ACTORS

INSTALLED = list(find_systems(()))


@pytest.fixture
def photographs(tmp_path):
    write_photographs(tmp_path / "photographs", IMAGES, 64)
    return tmp_path / "photographs"


def test_unknown_system_is_refused_with_a_name_that_is_near(capsys):
    assert main(["bench", "busy", "--system", "daff"]) == 2
    assert "unknown system 'daff': did you mean 'daft'" in capsys.readouterr().err


@pytest.mark.skipif("daft" in INSTALLED, reason="Daft is installed")
def test_system_that_is_not_installed_says_how_to_install_it(capsys):
    assert main(["bench", "busy", "--system", "overpaint", "--system", "daft"]) == 2
    assert "--system daft: Daft is not installed: pip install --no-deps" in capsys.readouterr().err


@pytest.fixture(scope="module")
def overpaints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overpaint")
    write_photographs(folder / "photographs", IMAGES, 64)
    return _written(folder / "photographs", folder, "overpaint")


@pytest.mark.parametrize("name", [name for name in SYSTEMS.names() if name != "overpaint"])
@pytest.mark.ray
@pytest.mark.slow
def test_system_writes_the_same_files_and_calls_the_model_as_often(
    name, overpaints, photographs, tmp_path
):
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed")
    assert len(set(overpaints)) == IMAGES
    assert _written(photographs, tmp_path, name) == overpaints


def _written(photographs, folder, name):
    """The contents of the files that a system writes."""
    system = SYSTEMS.find(name)()
    actors = 1 if system.one_model else ACTORS
    job = Job(photographs, folder / name, folder / f"{name}.log", "sleep", 10.0, actors, True)
    with ready(system):
        system.run(job)
    found = batches(job.log)
    assert len(found) == IMAGES / BATCH
    assert all(batch.end_s - batch.start_s >= 0.01 for batch in found)
    return sorted(path.read_bytes() for path in job.out.rglob("*.png"))


@pytest.mark.ray
@pytest.mark.slow
def test_figures_are_those_of_each_system_in_each_case(photographs):
    case = Case(batch_ms=20.0, side_px=64, actors=1, png="default", work="torch")
    rows = list(measure_busy([case], (), IMAGES, 1, memory=True))
    assert [row["system"] for row in rows] == INSTALLED
    for row in rows:
        assert row["batch_ms"] == 20.0
        assert 0 < row["busy_share"] <= 1
        assert row["images_per_s"] > 0
        assert row["peak_mib"] > 0
        assert row["written_mib"] > 0
