"""plan: what a run would do and cost, said before anything is started or written."""

import json
import re
import statistics

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=6, seed=3)
    return folder


def _planned(capsys, drawn, *options):
    assert main(["plan", "demo", "--input", str(drawn), *options]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("network evaluations"))
    return said, {kind: int(number) for number, kind in re.findall(r"(\d+) (\w+)", line)}


def test_plan_counts_rows_and_only_the_evaluations_that_occur(capsys, drawn):
    said, costs = _planned(capsys, drawn)
    assert "6 input rows give 6 edits" in said
    assert costs["vae_encode"] == 12
    assert costs["forward"] > 6
    assert "backward" not in said


def test_plan_of_half_the_rows_costs_half(capsys, drawn):
    _, whole = _planned(capsys, drawn)
    _, half = _planned(capsys, drawn, "--limit", "3")
    assert {kind: 2 * number for kind, number in half.items()} == whole


def test_plan_writes_nothing(capsys, drawn):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    _planned(capsys, drawn)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_plan_says_what_becomes_of_the_columns(capsys, drawn):
    said, _ = _planned(capsys, drawn)
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    assert "source_uri" in lines["columns that are read"]
    assert lines["given, but not read by this recipe"] == "edit_type"
    found = lines[f"relative sources are below {drawn}"]
    assert found == "6 of 6 that were looked for lie there"


def test_plan_says_what_is_left_out_of_a_folder(capsys, drawn, tmp_path):
    for name in ("a.png", "b.svg", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    given = ["--input", str(tmp_path), "--set", "row.instruction=x", "--set", "row.mask_phrase=x"]
    assert main(["plan", "instruct-demo", *given]) == 0
    said = capsys.readouterr().out
    assert "1 image; left out: 1 .svg (" in said
    assert "1 hidden, 1 other file (1 .txt)" in said


def test_plan_looks_at_a_table_whose_sources_are_not_here(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("source_uri,instruction\nx.png,make it blue\n")
    assert main(["plan", "instruct-demo", "--input", str(tmp_path / "t.csv")]) == 0
    assert "a run is refused: none of the 1 sources" in capsys.readouterr().out


def _lines(said):
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)


def test_plan_counts_operations_store_and_price(capsys, drawn):
    said, _ = _planned(capsys, drawn, "--price", "gpu=2,requests=5", "--gpu", "A100")
    lines = _lines(said)
    tflop = float(re.match(r"([\d.e-]+) TFLOP", lines["work"])[1])
    _, half = _planned(capsys, drawn, "--limit", "3")
    assert tflop > 0
    hours = tflop / (312 / 3) / 3600
    assert float(lines["price at that of an hour of a GPU"]) == pytest.approx(2 * hours, rel=0.01)
    stored = re.search(r"up to (\d+) objects, (\d+) writes", lines["store"])
    assert int(stored[1]) >= 12
    paid = float(lines["price at that of 1,000 requests that write"])
    assert paid == pytest.approx(5 * int(stored[2]) / 1000, rel=0.01)
    assert float(lines["price together"]) == pytest.approx(paid + 2 * hours, rel=0.01)
    assert half


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--price", "gpus=2"), "did you mean 'gpu'?"),
        (("--price", "gpu=cheap"), "write gpu=NUMBER"),
        (("--gpu", "H10"), "did you mean 'H100'?"),
    ],
)
def test_plan_refuses_prices_that_it_does_not_know(capsys, drawn, options, said):
    assert main(["plan", "demo", "--input", str(drawn), *options]) == 2
    assert said in capsys.readouterr().err


NEGATIVE = '[[stage]]\noperator = "negative"\nname = "n"\nbatch_size = 4\nbatch_ms = 200\n'


@pytest.fixture
def slow_recipe(tmp_path):
    path = tmp_path / "slow.toml"
    path.write_text(NEGATIVE + "[limits]\ntask_rows = 4\n[group.n]\nnum_gpus = 1\n")
    return str(path)


def _sampled(capsys, recipe, given):
    """The seconds of a row that a sample of 16 rows tells."""
    assert main(["plan", recipe, *given, "--sample", "16", "--price", "storage=1"]) == 0
    said = capsys.readouterr().out
    assert "measured on 16 rows here" in said
    assert "GiB of images" in said
    return float(re.search(r"([\d.e-]+) s a row", said)[1])


def test_sample_tells_at_least_the_time_of_the_model(capsys, slow_recipe, tmp_path):
    write_dataset(tmp_path / "input", rows=48, seed=1)
    given = ["--input", str(tmp_path / "input")]
    # A machine that stands still as a task ends makes the time until the next end shorter.
    told = [_sampled(capsys, slow_recipe, given) for _ in range(3)]
    assert statistics.median(told) >= 0.05 * 0.9


@pytest.mark.slow
def test_sample_tells_the_time_of_a_run_within_15_per_cent(capsys, slow_recipe, tmp_path):
    write_dataset(tmp_path / "input", rows=48, seed=1)
    given = ["--input", str(tmp_path / "input")]
    ratios = []
    for turn in range(5):  # what else the machine does comes between a sample and its run
        row_s, output = _sampled(capsys, slow_recipe, given), tmp_path / f"run-{turn}"
        assert main(["run", slow_recipe, *given, "--output", str(output), "--no-ray"]) == 0
        ratios.append(row_s * 48 / json.loads((output / "stats.json").read_text())["wall_s"])
    assert statistics.median(ratios) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("num_rows", "num_places"), [(16, 16), (9, 16)])
def test_sample_counts_the_evaluations_that_the_plan_has(capsys, tmp_path, num_rows, num_places):
    write_dataset(tmp_path / "input", rows=num_rows, seed=3)
    given = ["--input", str(tmp_path / "input"), "--set", "invert.num_inference_steps=2"]
    assert main(["plan", "demo", *given, "--sample", str(num_rows)]) == 0
    said = capsys.readouterr().out
    (counted,) = re.findall(r"counted on these rows: (\d+) forward evaluations", said)
    (planned,) = re.findall(r"network evaluations: (\d+) forward", said)
    assert int(counted) == int(planned) // num_rows * num_places > 0
    assert ("as planned" in said) == (num_rows == num_places)


def test_sample_of_one_batch_is_refused(capsys, slow_recipe, drawn):
    assert main(["plan", slow_recipe, "--input", str(drawn), "--sample", "3"]) == 2
    assert "take more than 4" in capsys.readouterr().err


def test_budget_of_gpu_hours_ends_a_run_within_a_task_and_it_goes_on(capsys, slow_recipe, tmp_path):
    write_dataset(tmp_path / "input", rows=40, seed=1)
    output = tmp_path / "run"
    command = ["run", slow_recipe, "--input", str(tmp_path / "input"), "--output", str(output)]
    budget_s = 0.7
    spent = [*command, "--no-ray", "--budget-gpu-hours", str(budget_s / 3600)]
    assert main(spent) == 3
    assert "the same command goes on" in capsys.readouterr().err
    stats = json.loads((output / "stats.json").read_text())
    assert stats["gpu_hours"] * 3600 >= budget_s
    # A task of 4 rows takes 0.2 s and two are under way, so that the budget has room for six.
    assert 40 - 6 * 4 <= stats["ledger"]["pending"] < 40
    assert main([*command, "--no-ray"]) == 0
    assert main(["status", str(output)]) == 0
    assert "for each accepted row" in capsys.readouterr().out
    assert json.loads((output / "stats.json").read_text())["gpu_hours"] > stats["gpu_hours"]


def test_budget_without_a_gpu_is_refused(capsys, drawn, tmp_path):
    given = ["--input", str(drawn), "--output", str(tmp_path / "run"), "--no-ray"]
    assert main(["run", "demo", *given, "--budget-gpu-hours", "1"]) == 2
    assert "no group reserves a GPU" in capsys.readouterr().err
