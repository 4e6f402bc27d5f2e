"""Acceptance policies: bounds by edit type, the best of several tries, and named ones."""

import tomllib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.named_policies import named_policies, with_named_policy
from overpaint.pipeline.recipes.recipe import plan_from_tables
from overpaint.pipeline.runs.manifest import assemble, result_schema
from overpaint.pipeline.runs.planning import plan_parts
from pydantic import ValidationError
from toy_runs import table_of, toy_plan


def _manifest(policy, rows, scores, **row):
    """The manifest of a run whose rows got these scores, in the order of the plan."""
    plan = toy_plan(policy=policy, row=row)
    table, _ = next(plan_parts(plan, table_of(rows)))
    planned = table.to_pylist()
    assert len(planned) == len(scores)
    columns = {"caption": "a star", "edited_uri": "images/a.png", "status": "accepted"}
    ended = [
        {"key": one["key"], **columns, "brightness": score}
        for one, score in zip(planned, scores, strict=True)
    ]
    result = pa.Table.from_pylist(ended, result_schema(plan))
    return assemble(plan, table, [result]).to_pylist()


def _accepted(manifest):
    return [row["status"] == "accepted" for row in manifest]


EDIT = {"source_uri": "a.png", "instruction": "paint"}


def test_bounds_of_a_type_stand_beside_or_in_place_of_those_for_all():
    policy = Policy(
        {"a": {"min": 1}, "by_type": {"color": {"b": {"max": 2}}, "style": {"a": {"min": 0}}}}
    )
    rows = {"a": 0.5, "b": 3.0}
    assert policy.reasons({**rows, "edit_type": "color"}) == ["a < 1", "b > 2"]
    assert policy.reasons({**rows, "edit_type": "style"}) == []
    assert policy.reasons({**rows, "edit_type": "add"}) == ["a < 1"]
    assert policy.reasons({**rows, "edit_type": None}) == ["a < 1"]


def test_best_try_is_kept_and_the_others_say_by_what_they_lost():
    manifest = _manifest({"best": {"by": "brightness"}}, [EDIT], [0.2, 0.9, 0.5], candidates=3)
    assert _accepted(manifest) == [False, True, False]
    assert [row["reject_reasons"] for row in manifest] == [
        ["not best by brightness"],
        None,
        ["not best by brightness"],
    ]


def test_tries_of_unlike_edits_do_not_compete_and_methods_of_one_edit_do():
    rows = [EDIT, {**EDIT, "instruction": "draw"}, {**EDIT, "source_uri": "b.png"}]
    best = {"best": {"by": "brightness"}}
    assert _accepted(_manifest(best, rows, [0.1, 0.2, 0.3])) == [True, True, True]
    tries = [{**EDIT, "strength": 0.1, "seed": 1}, {**EDIT, "strength": 0.7, "seed": 2}]
    assert _accepted(_manifest(best, tries, [0.3, 0.4])) == [False, True]


def test_try_that_breaks_a_bound_is_no_rival_and_null_is_never_kept():
    policy = {"brightness": {"max": 0.8, "allow_null": True}, "best": {"by": "brightness"}}
    manifest = _manifest(policy, [EDIT], [0.9, 0.3, None, 0.5], candidates=4)
    assert _accepted(manifest) == [False, False, False, True]
    assert manifest[0]["reject_reasons"] == ["brightness > 0.8"]


def test_small_lead_keeps_none_and_a_try_alone_needs_no_lead():
    policy = {"best": {"by": "brightness", "min_margin": 0.1}}
    close = _manifest(policy, [EDIT], [0.50, 0.55], candidates=2)
    assert _accepted(close) == [False, False]
    assert {row["reject_reasons"][0] for row in close} == {"lead by brightness < 0.1"}
    assert _accepted(_manifest(policy, [EDIT], [0.5, 0.7], candidates=2)) == [False, True]
    assert _accepted(_manifest(policy, [EDIT], [0.5])) == [True]


@given(
    st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from(["highest", "lowest"]),
)
def test_as_many_as_asked_are_kept_and_none_lost_is_better(scores, keep, order):
    policy = {"best": {"by": "brightness", "keep": keep, "order": order}}
    manifest = _manifest(policy, [EDIT], scores, candidates=len(scores))
    kept = [row["brightness"] for row in manifest if row["status"] == "accepted"]
    lost = [row["brightness"] for row in manifest if row["status"] != "accepted"]
    assert len(kept) == min(keep, len(scores))
    sign = 1 if order == "highest" else -1
    assert not lost or min(sign * score for score in kept) >= max(sign * score for score in lost)


def test_policy_in_json_is_as_it_was_given_and_old_ones_stay_equal():
    old = {"a": {"min": 1.0, "max": None, "allow_null": False}}
    assert Policy({"a": {"min": 1}}).model_dump(mode="json") == old
    new = Policy({"a": {"min": 1}, "best": {"by": "s"}, "by_type": {"add": {"b": {"max": 2}}}})
    assert Policy.model_validate(new.model_dump(mode="json", exclude_none=True)) == new


@pytest.mark.parametrize(
    "rules",
    [
        {"by_type": {"colour": {"a": {"min": 1}}}},
        {"best": {"by": "a", "keep": 0}},
        {"best": {"keep": 2}},
        {"a": 3},
    ],
)
def test_wrong_rules_are_refused(rules):
    with pytest.raises(ValidationError):
        Policy(rules)


@pytest.mark.parametrize(
    "policy",
    [{"by_type": {"add": {"brightnes": {"min": 1}}}}, {"best": {"by": "brightnes"}}],
)
def test_rules_over_a_score_that_no_stage_writes_name_the_nearest(policy):
    with pytest.raises(ValidationError, match="did you mean 'brightness'"):
        toy_plan(policy=policy)


def test_named_policies_are_read_and_own_rules_stand_beside_them():
    assert {"instruct-pix2pix", "ultraedit", "strict", "off"} <= named_policies().keys()
    for table in named_policies().values():
        Policy(table)
    table = {"use": "instruct-pix2pix", "clip_sim_dir": {"min": 0.1}}
    policy = Policy(with_named_policy(table))
    assert policy.bounds["clip_sim_dir"].min == 0.1
    assert policy.bounds["clip_sim_image"].min == 0.7
    assert policy.best
    assert policy.best.keep == 4


def test_recipe_names_a_policy_or_is_told_the_nearest_name():
    text = 'name = "x"\n[[stage]]\noperator = "negative"\n[policy]\nuse = "{}"\n'
    assert plan_from_tables(tomllib.loads(text.format("off")), "x.toml").policy == Policy()
    with pytest.raises(UsageError, match=r"x\.toml: \[policy\]: no policy 'of': did you mean"):
        plan_from_tables(tomllib.loads(text.format("of")), "x.toml")
