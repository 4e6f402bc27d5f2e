"""`overpaint judge fit` and `combine`: one rank for several editors, learned from labels."""

import tomllib

import numpy as np
import pytest
from overpaint.jobs.calibrate.fitting import LabelledRow, fit
from overpaint.jobs.cli import main
from overpaint.jobs.commands.judge import stage_text
from overpaint.jobs.recipes import load_plan
from overpaint.operators.combine import Combine
from overpaint.operators.edit import Edit
from overpaint.operators.judge import Judge
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from report_runs import planned_row, write_run
from running import outcomes
from scipy.optimize import minimize

EDITORS = ("brush", "flow")


def tries(num_requests, seed=0):
    """Tries of two editors: the judge likes the wrong textures of one of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_requests):
        kind = ("color", "texture")[number % 2]
        for method in EDITORS * 2:
            is_lucky = rng.random() < (0.15 if (method, kind) == ("flow", "texture") else 0.75)
            liked = 3.0 if (method, kind) == ("flow", "texture") else 0.0
            scores = {
                "lmm_score": 5 + 2 * is_lucky + liked + rng.normal(0, 0.7),
                "kept": None if number % 7 == 0 else float(is_lucky + rng.normal(0, 1.5)),
            }
            rows.append(LabelledRow(scores, bool(is_lucky), method, kind, f"{number}.png", "do it"))
    return rows


def test_fitted_rank_chooses_across_editors_better_than_the_score_alone():
    found = fit(tries(200), ["lmm_score", "kept"])
    by_rank = {each.rank: each for each in found.comparisons}
    assert (found.num_rows, found.num_requests) == (800, 200)
    assert by_rank["fitted"].chosen > by_rank["lmm_score"].chosen + 0.15
    aucs = [by_rank[rank].auc or 0.0 for rank in ("fitted", "lmm_score")]
    assert aucs[0] > aucs[1] + 0.1
    assert by_rank["fitted"].chosen <= found.reachable
    unseen = tries(200, seed=1)
    rows = [{**row.scores, "method": row.method, "edit_type": row.edit_type} for row in unseen]
    chances = np.array([a["right_probability"] for a in outcomes(found.operator, rows)])
    is_good = np.array([row.is_good for row in unseen])
    likely = chances > 0.5
    assert is_good[likely].mean() == pytest.approx(chances[likely].mean(), abs=0.05)
    assert is_good[~likely].mean() == pytest.approx(chances[~likely].mean(), abs=0.05)


def test_model_is_the_least_of_the_penalised_loss():
    rows = [row for row in tries(30) if row.method == "brush"]
    found = fit(rows, ["lmm_score"]).operator
    scores = np.array([row.scores["lmm_score"] for row in rows])
    is_good = np.array([row.is_good for row in rows], float)
    kinds = sorted({row.edit_type for row in rows})
    is_of = np.array([[row.edit_type == kind for kind in kinds] for row in rows], float)
    # Offsets of the one method, of each type, and of both.
    design = np.hstack(
        [
            np.ones((len(rows), 1)),
            ((scores - scores.mean()) / scores.std())[:, None],
            np.ones((len(rows), 1)),
            is_of,
            is_of,
        ]
    )

    def loss(w):
        odds = design @ w
        return np.sum(np.logaddexp(0, odds) - is_good * odds) + 0.5 * np.sum(w[1:] ** 2)

    best = minimize(loss, np.zeros(design.shape[1]), tol=1e-10).x
    expected = best[1] / scores.std()
    assert found.weights["lmm_score"] == pytest.approx(expected, rel=1e-2)


def test_combined_figure_by_hand():
    operator = Combine(
        weights={"a": 2.0, "b": -1.0},
        means={"a": 1.0},
        intercept=0.5,
        offsets={"method=flow": 1.0, "edit_type=add": 0.25, "method=flow edit_type=add": -2.0},
    )
    rows = [
        {"a": 1.5, "b": 0.5, "method": "flow", "edit_type": "add"},
        {"a": None, "b": None, "method": None, "edit_type": None},
    ]
    first, second = (answer["right_probability"] for answer in outcomes(operator, rows))
    odds = 0.5 + 2 * 0.5 - 0.5 + 1.0 + 0.25 - 2.0
    assert first == pytest.approx(1 / (1 + np.exp(-odds)))
    assert second == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_stage_that_is_written_ranks_tries_in_a_plan():
    operator = fit(tries(20), ["lmm_score"]).operator
    (table,) = tomllib.loads(stage_text(operator))["stage"]
    assert table.pop("operator") == "combine"
    assert Combine(**table) == operator
    stages = [Stage(operator=each) for each in (Edit(method="sdedit"), Judge(), operator)]
    plan = Plan(name="p", stages=stages, policy=Policy(best={"by": "right_probability"}))
    assert "right_probability" in {column.name for column in plan.stored_columns()}


def test_command_fits_a_run_to_its_truth(tmp_path, capsys):
    rows = [planned_row(number) for number in range(200)]
    for row in rows:
        row["clip_sim_dir"] = row["truth_gain"] / 2 + row["seed"] % 3 / 10
    write_run(tmp_path, rows)
    stage = tmp_path / "stage.toml"
    given = ("--columns", "clip_sim_dir,background_psnr_db", "--to", str(stage))
    assert main(["judge", "fit", str(tmp_path / "run"), *given]) == 0
    assert "any try is right" in capsys.readouterr().out
    (table,) = tomllib.loads(stage.read_text())["stage"]
    assert table["weights"]["clip_sim_dir"] > 0
    assert main(["judge", "fit", str(tmp_path / "run"), "--columns", "clip_sim_dirr"]) != 0
    assert "did you mean 'clip_sim_dir'" in "".join(capsys.readouterr())


def test_what_cannot_be_fitted_is_refused():
    rows = tries(20)
    with pytest.raises(UsageError, match="have one label"):
        fit([row for row in rows if row.is_good], ["lmm_score"])
    with pytest.raises(UsageError, match="too few sources"):
        fit(tries(4), ["lmm_score"])
    with pytest.raises(ValueError, match="no weights"):
        Combine().check()
    for fields, words in (
        ({"means": {"a": 1.0}}, "no weight is of that score"),
        ({"offsets": {"editor=a": 1.0}}, "write method=NAME"),
        ({"weights": {"a": float("nan")}}, "must be finite"),
    ):
        with pytest.raises(ValidationError, match=words):
            Combine(**fields)


def test_shipped_rank_is_fitted_to_the_editors_and_types_of_its_recipe():
    plan = load_plan("pairs")
    (combine,) = [s.operator for s in plan.stages if isinstance(s.operator, Combine)]
    methods = {edit["method"] for edit in plan.row["edits"]}
    named = {name: dict(part.split("=") for part in name.split(" ")) for name in combine.offsets}
    assert {own["method"] for own in named.values() if "method" in own} == methods
    types = {own["edit_type"] for own in named.values() if "edit_type" in own}
    assert types == set(EDIT_TYPES)
    assert plan.policy.best.by == "right_probability"
