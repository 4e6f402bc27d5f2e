import pytest
from overpaint.cluster.ray.placement import Machine, check_fits
from overpaint.cluster.ray.scheduling import label_selectors, ray_options
from overpaint.pipeline.accelerators import ACCELERATORS, accelerator_of
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.placement import Placement
from toy_runs import TWO_GROUPS, toy_plan

PLACES = {
    "read": {"num_cpus": 2, "actors": [1, 4]},
    "edit": {"num_cpus": 1, "num_gpus": 0.5, "memory_gib": 4, "actors": [2, 8]},
}
ENOUGH = {"CPU": 5.0, "GPU": 1.0, "memory": 8.0 * 2**30}


def test_check_fits_counts_the_fewest_actors_of_every_group_and_the_stream():
    check_fits(toy_plan(TWO_GROUPS, groups=PLACES), [Machine(ENOUGH)])


@pytest.mark.parametrize(
    ("less", "wanted"),
    [
        ({"CPU": 4.0}, ["5 CPU", "has 4", "read: 1 x 2", "edit: 2 x 1", "1 for the stream"]),
        ({"GPU": 0.0}, ["1 GPU", "has 0", "edit: 2 x 0.5", "num_gpus"]),
        ({"memory": 2.0**32}, ["8 GiB memory", "has 4 GiB", "edit: 2 x 4", "memory_gib"]),
    ],
)
def test_check_fits_names_what_is_short_and_who_asks_for_it(less, wanted):
    with pytest.raises(UsageError) as caught:
        check_fits(toy_plan(TWO_GROUPS, groups=PLACES), [Machine(ENOUGH | less)])
    for words in wanted:
        assert words in str(caught.value)


def test_check_fits_a_cluster_without_gpus_names_none():
    with pytest.raises(UsageError, match="1 GPU"):
        check_fits(toy_plan(TWO_GROUPS, groups=PLACES), [Machine({"CPU": 8.0, "memory": 2.0**34})])


def _machine(cpus, gpus=0.0, kind=None):
    labels = {"ray.io/accelerator-type": kind} if kind else {}
    return Machine({"CPU": cpus, "GPU": gpus, "memory": 2.0**36}, labels)


def _on(**edit):
    groups = PLACES | {"edit": {**PLACES["edit"], "num_gpus": 1, **edit}}
    return toy_plan(TWO_GROUPS, groups=groups)


def test_check_fits_counts_a_kind_of_accelerator_by_itself():
    check_fits(_on(accelerator_type="L4"), [_machine(8.0, 2.0, "L4"), _machine(8.0, 4.0, "H100")])
    with pytest.raises(UsageError) as caught:
        check_fits(
            _on(accelerator_type="L4"), [_machine(8.0, 1.0, "L4"), _machine(8.0, 4.0, "H100")]
        )
    for words in ("2 GPU on machines with accelerator_type 'L4'", "edit: 2 x 1", "has 1", "change"):
        assert words in str(caught.value)


def test_check_fits_takes_a_machine_that_has_not_told_its_labels():
    check_fits(_on(accelerator_type="L4"), [Machine({"CPU": 8.0, "GPU": 2.0, "memory": 2.0**36})])


def test_check_fits_names_an_actor_that_no_single_machine_has_room_for():
    with pytest.raises(UsageError) as caught:
        check_fits(_on(num_gpus=2, actors=[1, 1]), [_machine(8.0, 1.0, "L4")] * 2)
    said = str(caught.value)
    assert "group 'edit' needs 1 actors of 1 CPU 2 GPU 4 GiB memory each" in said
    assert "hold 0 (8 CPU 1 GPU 64 GiB memory L4)" in said


def test_accelerators_have_the_names_that_ray_gives_them():
    from ray.util.accelerators import accelerators

    names = {name: value for name, value in vars(accelerators).items() if not name.startswith("_")}
    assert set(ACCELERATORS) == set(names.values())


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ("nvidia-l4", "L4"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-h100-80gb", "H100"),
        ("NVIDIA-A100-SXM4-40GB", "A100"),
        ("NVIDIA-L40S", "L40S"),
        ("a10g", "A10G"),
        ("NVIDIA-RTX-PRO-6000-Blackwell", "RTX-PRO-6000"),
        ("nvidia-l400", None),
    ],
)
def test_accelerator_is_found_in_the_labels_that_platforms_write(machine, kind):
    assert accelerator_of(machine) == kind


def test_labels_are_sought_from_the_most_to_the_least_wanted():
    kind, market = "ray.io/accelerator-type", "ray.io/market-type"
    on_l4 = Placement(num_gpus=1, accelerator_type="L4", market_type="spot")
    assert label_selectors(on_l4) == [{kind: "L4", market: "spot"}, {kind: "L4"}]
    assert label_selectors(Placement(num_gpus=1)) == [{}]
    off_gpus, *others = label_selectors(Placement())
    assert off_gpus[kind].startswith("!in(")
    assert "L4" in off_gpus[kind]
    assert others == [{}]
    assert ray_options(Placement(num_gpus=0.5)) == {"num_cpus": 1, "num_gpus": 0.5, "memory": None}
