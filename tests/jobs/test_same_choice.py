"""The policy of a run and an export choose the same try among the same tries."""

import json

import pyarrow.parquet as pq
import pytest
from export_runs import exported, ranked_run
from overpaint.jobs.cli import main
from overpaint.pipeline.errors import UsageError
from toy_runs import write_sources

TRIES = """
[row]
candidates = 3
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
"""
PROPOSED = """
[row]
candidates = 4
[[stage]]
operator = "propose"
same_for = "{same_for}"
[[stage]]
operator = "negative"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
[policy]
best = {{ by = "brightness" }}
"""


@pytest.fixture
def place(tmp_path):
    """A folder with sources of which several edits are asked."""
    names = write_sources(tmp_path / "input", 3)
    rows = [
        {"source_uri": name, "instruction": words, "edit_type": "color"}
        for name in names
        for words in ("paint", "paint it all")
    ]
    _write(tmp_path, rows)
    return tmp_path


def _write(place, rows):
    (place / "input/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _run(place, recipe):
    (place / "recipe.toml").write_text(recipe)
    given = ["--input", str(place / "input"), "--output", str(place / "run"), "--no-ray"]
    assert main(["run", str(place / "recipe.toml"), *given]) == 0
    return pq.read_table(place / "run/manifest").to_pylist()


def _accepted(place, order, keep):
    """The keys that a policy accepts which keeps so many tries of each edit."""
    policy = place / "policy.toml"
    policy.write_text(f'best = {{ by = "brightness", order = "{order}", keep = {keep} }}')
    assert main(["accept", str(place / "run"), "--policy", str(policy)]) == 0
    rows = pq.read_table(place / "run/manifest").to_pylist()
    return {row["key"] for row in rows if row["status"] == "accepted"}


def _exported(place, name, **options):
    exported(str(place / "run"), place / name, "ip2p", best=True, **options)
    return {one["key"] for one in pq.read_table(place / name / "rows.parquet").to_pylist()}


@pytest.mark.parametrize("order", ["highest", "lowest"])
def test_best_of_the_policy_is_the_best_of_an_export(order, place):
    rows = _run(place, TRIES)
    assert len(rows) == 18
    chosen = _accepted(place, order, 1)
    assert len(chosen) == 6
    assert len(_accepted(place, order, 3)) == 18
    assert _exported(place, "by_policy") == chosen
    assert _exported(place, "by_name", rank_by="brightness") == chosen


def test_the_policy_names_the_rank_and_says_so(place):
    _run(place, TRIES)
    _accepted(place, "lowest", 3)
    facts = exported(str(place / "run"), place / "x", "ip2p", best=True)
    assert (facts["policy"]["rank_by"], facts["policy"]["order"]) == ("brightness", "lowest")
    assert all(value > 0 for value in facts["survival"]["thresholds"])
    assert "ranked by `brightness`, the lowest first" in (place / "x/README.md").read_text()
    # The losers of preferences are brighter.
    facts = exported(str(place / "run"), place / "y", "preference dpo")
    assert facts["examples"] == 12


@pytest.mark.parametrize("same_for", ["row", "source"])
def test_tries_with_other_words_do_not_compete(same_for, place):
    names = [f"source-{number:03d}.png" for number in range(3)]
    captions = ["a red star on a blue background", "a green cup in a forest", "a small dog"]
    pairs = zip(names, captions, strict=True)
    _write(place, [{"source_uri": name, "caption": caption} for name, caption in pairs])
    rows = _run(place, PROPOSED.format(same_for=same_for))
    made = [row for row in rows if row["edited_uri"]]
    assert made
    words = {(row["source_uri"], row["instruction"]) for row in made}
    assert (len(words) > 3) == (same_for == "row")
    accepted = {row["key"] for row in made if row["status"] == "accepted"}
    assert len(accepted) == len(words)
    assert main(["accept", str(place / "run"), "--policy", "off"]) == 0
    assert _exported(place, "x", rank_by="brightness") == accepted


def test_runs_that_rank_in_opposite_orders_are_not_exported_together(tmp_path):
    runs = [ranked_run(tmp_path / order, order) for order in ("highest", "lowest")]
    with pytest.raises(UsageError, match="opposite orders"):
        exported(runs, tmp_path / "x", "ip2p", best=True)
    facts = exported(runs, tmp_path / "y", "ip2p", best=True, rank_by="clip_sim_dir")
    assert facts["policy"]["rank_by"] == "clip_sim_dir"
