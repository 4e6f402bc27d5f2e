import pytest
from overpaint.cluster.ray.placement import check_fits
from overpaint.pipeline.errors import UsageError
from toy_runs import TWO_GROUPS, toy_plan

PLACES = {
    "read": {"num_cpus": 2, "actors": [1, 4]},
    "edit": {"num_cpus": 1, "num_gpus": 0.5, "memory_gib": 4, "actors": [2, 8]},
}
ENOUGH = {"CPU": 5.0, "GPU": 1.0, "memory": 8.0 * 2**30}


def test_check_fits_counts_the_fewest_actors_of_every_group_and_the_stream():
    check_fits(toy_plan(TWO_GROUPS, groups=PLACES), ENOUGH)


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
        check_fits(toy_plan(TWO_GROUPS, groups=PLACES), ENOUGH | less)
    for words in wanted:
        assert words in str(caught.value)


def test_check_fits_a_cluster_without_gpus_names_none():
    with pytest.raises(UsageError, match="1 GPU"):
        check_fits(toy_plan(TWO_GROUPS, groups=PLACES), {"CPU": 8.0, "memory": 2.0**34})
