"""num_gpus = "auto": a share by the memory that the models of a group need."""

import json

import pytest
from overpaint.cluster.worker.gpu_memory import DeviceMemory, ShareProbe, device_memory
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.runs.gpu_shares import with_gpu_shares
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of

TABLES = {
    "name": "shared",
    "stage": [{"operator": "caption", "group": "gpu", "checkpoint": "papercut"}],
    "group": {"gpu": {"num_gpus": "auto", "accelerator_type": "L4"}},
}


def _plan(checkpoint="papercut", kind="L4", **placement):
    (stage,) = TABLES["stage"]
    group = {**TABLES["group"]["gpu"], "accelerator_type": kind, **placement}
    stages = [{**stage, "checkpoint": checkpoint, "dtype": "bfloat16"}]
    return plan_from_tables({**TABLES, "stage": stages, "group": {"gpu": group}}, "recipe.toml")


@pytest.fixture
def large(tmp_path):
    """A checkpoint whose header tells of 8 x 10^9 numbers, and that has none of them."""
    tensor = {"dtype": "BF16", "shape": [80_000, 100_000], "data_offsets": [0, 16 * 10**9]}
    header = json.dumps({"weight": tensor, "__metadata__": {"format": "pt"}}).encode()
    data = len(header).to_bytes(8, "little") + header
    (tmp_path / "model.safetensors").write_bytes(data)
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "share"), [("L4", 1.0), ("L40S", 1.0), ("H100", 0.5), ("H200", 0.25), ("B300", 0.125)]
)
def test_share_is_the_smallest_with_room_for_the_models(large, kind, share):
    # 14.9 GiB of weights and a quarter beside them, with headroom: 22.2 GiB.
    plan, (note,) = with_gpu_shares(_plan(large, kind))
    assert plan.placement("gpu").num_gpus == share
    assert f"group 'gpu': num_gpus = {share:g}: an estimate of 22.2 of" in note
    assert ("more than it has" in note) == (kind == "L4")


def test_group_of_unknown_weights_reserves_a_whole_gpu():
    plan, (note,) = with_gpu_shares(_plan("nobody/has-this"))
    assert plan.placement("gpu").num_gpus == 1.0
    assert "nobody/has-this is not on this machine" in note


def test_share_is_recorded_with_the_run(capsys, tmp_path):
    write_dataset(tmp_path / "input", rows=2, seed=1)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "x"\n[[stage]]\noperator = "caption"\ngroup = "gpu"\nmax_new_tokens = 4\n'
        '[group.gpu]\nnum_gpus = "auto"\naccelerator_type = "L4"\n'
    )
    command = ["run", str(recipe), "--input", str(tmp_path / "input")]
    assert main([*command, "--output", str(tmp_path / "run"), "--no-ray"]) == 0
    assert "num_gpus = 0.125: an estimate of 0.7" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["recipe"]["group"]["gpu"]["num_gpus"] == 0.125
    assert "finds_gpu_share" not in record["recipe"]["group"]["gpu"]


def test_plan_with_an_open_share_reads_back_from_its_recipe():
    plan = plan_from_tables(TABLES, "recipe.toml")
    resolved = recipe_of(plan)
    assert resolved["group"]["gpu"]["num_gpus"] == "auto"
    assert recipe_of(plan_from_tables(resolved, "recipe.json")) == resolved
    assert plan.placement("gpu").num_gpus == 1.0


@pytest.mark.parametrize("kind", [None, "TPU-V4"])
def test_share_of_an_unknown_gpu_is_refused(kind):
    with pytest.raises(UsageError, match="share of a GPU's memory: give accelerator_type, one of"):
        _plan(kind=kind)


def test_probe_says_once_where_an_actor_takes_more_than_its_share(caplog):
    assert device_memory() is None  # no model of this process has used a GPU
    probe = ShareProbe("models", 0.25)
    assert probe.notes(None) == {}
    taken = {"peak_gib": 5.0, "share_gib": 4.0}
    for _ in range(2):
        assert probe.notes(DeviceMemory(5 << 30, 16 << 30)) == {"gpu memory of models": taken}
    assert caplog.text.count("took 5 GiB of its GPU, and num_gpus = 0.25 is 4 GiB") == 1
    assert ShareProbe("cpu", 0.0).notes(DeviceMemory(5 << 30, 16 << 30)) == {}
