"""`overpaint judge calibrate`: figures beside independent ones, labels, page and command."""

import json
import re
from html import unescape
from itertools import pairwise

import numpy as np
import pytest
from overpaint.jobs.bench.judge_pairs import KINDS, sample_pairs
from overpaint.jobs.calibrate.calibration import JudgedRow, calibrate
from overpaint.jobs.calibrate.page import calibration_page
from overpaint.jobs.calibrate.statistics import auc, reliability, spearman, survival, wilson
from overpaint.jobs.cli import main
from report_runs import HOSTILE, failed, planned_row, write_run
from scipy import stats


def drawn(seed, num=400, levels=None):
    """Scores that tell something of random labels; with `levels` many of them are equal."""
    rng = np.random.default_rng(seed)
    is_good = rng.random(num) < 0.4
    scores = rng.normal(is_good * 0.8, 1.0)
    return (np.round(scores * levels) / levels if levels else scores), is_good


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_auc_is_the_share_of_pairs_that_are_in_order(seed, levels):
    scores, is_good = drawn(seed, 150, levels)
    good, bad = scores[is_good], scores[~is_good]
    pairs = [1.0 if g > b else 0.5 if g == b else 0.0 for g in good for b in bad]
    assert auc(scores, is_good) == pytest.approx(np.mean(pairs))
    u = stats.mannwhitneyu(good, bad).statistic
    assert auc(scores, is_good) == pytest.approx(u / (len(good) * len(bad)))


def test_auc_by_hand():
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    assert auc(scores, np.array([False, False, True, True])) == 0.75
    assert auc(scores, np.array([True] * 4)) is None
    assert auc(np.zeros(4), np.array([True, False, True, False])) == 0.5


@pytest.mark.parametrize("levels", [None, 2])
def test_rank_correlation_is_scipys(levels):
    scores, _ = drawn(4, 200, levels)
    grades = scores**3 + np.random.default_rng(1).normal(size=200)
    assert spearman(scores, grades) == pytest.approx(stats.spearmanr(scores, grades).statistic)
    assert spearman(scores, np.ones(200)) is None


def test_interval_of_a_share_is_scipys():
    for num_good, num_rows in ((0, 5), (3, 10), (10, 10), (41, 97)):
        interval = stats.binomtest(num_good, num_rows).proportion_ci(method="wilson")
        assert wilson(num_good, num_rows) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("levels", [None, 1])
def test_reliability_counts_every_row_once_and_equal_scores_together(levels):
    scores, is_good = drawn(2, 300, levels)
    bins = reliability(scores, is_good)
    assert sum(each.num_rows for each in bins) == 300
    assert sum(each.num_good for each in bins) == is_good.sum()
    for one, other in pairwise(bins):
        assert one.greatest < other.least
    for each in bins:
        inside = (scores >= each.least) & (scores <= each.greatest)
        assert each.num_rows == inside.sum()
        assert each.share == pytest.approx(is_good[inside].mean())
        assert each.low <= each.share <= each.high


def test_reliability_of_one_score_is_one_bin():
    (only,) = reliability(np.full(7, 3.0), np.array([True] * 3 + [False] * 4))
    assert (only.num_rows, only.share) == (7, pytest.approx(3 / 7))


def test_reliability_of_few_scores_has_a_bin_for_each():
    scores = np.array([0.0, 5.0, 10.0] * 4)
    bins = reliability(scores, scores > 7)
    assert [(each.mean, each.share) for each in bins] == [(0, 0), (5, 0), (10, 1)]


def test_survival_is_what_each_threshold_keeps():
    scores, is_good = drawn(3, 120, 2)
    for point in survival(scores, is_good, 150, int(is_good.sum()) + 5):
        kept = scores >= point.threshold
        assert point.kept == pytest.approx(kept.sum() / 150)
        assert point.precision == pytest.approx(is_good[kept].mean())
        assert point.recall == pytest.approx((kept & is_good).sum() / (is_good.sum() + 5))


def test_survival_of_many_scores_has_few_points():
    scores, is_good = drawn(3, 5000)
    points = survival(scores, is_good, 5000, int(is_good.sum()))
    assert len(points) == 200
    assert points[0].kept == 1.0
    assert points[-1].threshold == scores.max()


def judged(num=60):
    """Rows of two types: bad ones of two kinds, some without a score."""
    rows = []
    for number in range(num):
        is_good = number % 3 == 0
        kind = "" if is_good else ("no-op", "shifted")[number % 2]
        score = 8.0 if is_good else {"no-op": 1.0, "shifted": 8.0}[kind]
        score = None if number % 10 == 9 else score + (number % 7) / 10
        status = "parse_error" if score is None else "ok"
        kinds = ("color", "style")[number % 4 // 2]
        rows.append(JudgedRow(score, is_good, None, kinds, kind, number % 5 != 0, status))
    return rows


def test_kinds_of_failure_are_told_apart():
    found = calibrate(judged(), column="lmm_score", labels="by hand")
    kinds = {group.name: group for group in found.by_failure}
    assert kinds["no-op"].auc == 1.0
    assert kinds["shifted"].auc == pytest.approx(0.5, abs=0.3)
    assert kinds["no-op"].auc > found.overall.auc > kinds["shifted"].auc
    assert [group.name for group in found.by_type] == ["color", "style"]
    assert sum(group.num_rows for group in found.by_type) == found.overall.num_rows == 60
    assert found.overall.num_unjudged == 6
    assert found.statuses == {"ok": 54, "parse_error": 6}
    assert found.orders_agree == pytest.approx(0.8)


def test_row_without_a_score_is_never_kept_and_counts_against_recall():
    rows = [JudgedRow(5.0, True), JudgedRow(None, True), JudgedRow(1.0, False)]
    found = calibrate(rows, column="s", labels="by hand")
    best = found.thresholds[0].point
    assert (best.threshold, best.precision, best.recall) == (5.0, 1.0, 0.5)
    assert best.kept == pytest.approx(1 / 3)
    nothing = calibrate([JudgedRow(None, True)], column="s", labels="by hand")
    assert nothing.overall.auc is None
    assert nothing.thresholds[0].point is None
    assert "No labelled row has a score" in calibration_page(nothing, "a run")


def test_threshold_for_a_precision_is_the_least_that_has_it_from_there_on():
    scores = [1, 2, 3, 4, 5, 6, 7, 8]
    good = [False, True, False, False, True, True, True, True]
    rows = [JudgedRow(float(s), g) for s, g in zip(scores, good, strict=True)]
    thresholds = {
        t.reason[:16]: t.point for t in calibrate(rows, column="s", labels="x").thresholds
    }
    assert thresholds["precision of 80%"].threshold == 4.0
    assert thresholds["precision of 95%"].threshold == 5.0


def test_page_is_one_file_that_fetches_nothing_and_holds_the_figures():
    found = calibrate(judged(), column="lmm_score", labels=HOSTILE)
    page = calibration_page(found, "demo-run")
    assert HOSTILE not in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page)
    assert "default-src 'none'" in unescape(page)
    assert f"{found.overall.auc:.3f} ±" in page
    assert page.count("<svg viewBox") == 3
    for word in ("no-op", "shifted", "color", "style", "parse_error", "orders agree"):
        assert word in page
    assert "nan" not in page.lower().replace("finan", "")


@pytest.fixture
def run(tmp_path):
    rows = [planned_row(number) for number in range(200)]
    rows[3] = failed(rows[3], "edit", "out_of_memory", "too large")
    write_run(tmp_path, rows)
    return tmp_path, rows


def _calibrate(place, *options):
    return main(
        ["judge", "calibrate", str(place / "run"), *options, "--json", str(place / "f.json")]
    )


def _figures(place):
    return json.loads((place / "f.json").read_text())


def test_truth_gives_labels_for_nothing(run, capsys):
    place, rows = run
    page = place / "page.html"
    assert _calibrate(place, "--column", "clip_sim_dir", "--html", str(page)) == 0
    figures = _figures(place)
    labelled = [row for row in rows if row["truth_success"] is not None]
    scores = np.array([row["clip_sim_dir"] for row in labelled])
    gains = np.array([row["truth_gain"] for row in labelled])
    is_good = np.array([row["truth_success"] for row in labelled])
    u = stats.mannwhitneyu(scores[is_good], scores[~is_good]).statistic
    expected = u / (is_good.sum() * (~is_good).sum())
    assert figures["overall"]["auc"] == pytest.approx(expected)
    assert figures["overall"]["spearman"] == pytest.approx(stats.spearmanr(scores, gains).statistic)
    assert figures["correlated_with"] == "grade"
    assert {group["name"] for group in figures["by_type"]} == {"color", "replace", "style"}
    assert "AUC" in capsys.readouterr().out
    assert "clip_sim_dir" in page.read_text()


def test_table_of_labels_by_key(run, capsys):
    place, rows = run
    lines = [
        {"key": row["key"], "label": int((row["clip_sim_dir"] or 0) > 0.4), "failure": "by hand"}
        for row in rows[:50]
    ]
    lines.append({"key": "0" * 32, "label": 1, "failure": None})
    table = place / "labels.jsonl"
    table.write_text("\n".join(json.dumps(line) for line in lines))
    assert _calibrate(place, "--column", "clip_sim_dir", "--labels", str(table)) == 0
    figures = _figures(place)
    assert figures["overall"]["auc"] == 1.0
    assert figures["overall"]["num_rows"] == 49, "a row that was not edited has no score to judge"
    assert [group["name"] for group in figures["by_failure"]] == ["by hand"]
    capsys.readouterr()


def test_table_of_several_opinions_by_source_and_instruction(run, capsys):
    place, rows = run
    table = place / "labels.csv"
    lines = ["source_uri,instruction,label"]
    for row in rows[:30]:
        marks = (5, 4) if (row["clip_sim_dir"] or 0) > 0.4 else (1, 3)
        lines += [f"{row['source_uri']},{row['instruction']},{mark}" for mark in marks]
    table.write_text("\n".join(lines))
    given = ("--column", "clip_sim_dir", "--labels", str(table))
    assert _calibrate(place, *given, "--good-from", "4") == 0
    figures = _figures(place)
    assert figures["overall"]["auc"] == 1.0
    assert figures["correlated_with"] == "grade"
    assert _calibrate(place, *given) == 2
    assert "--good-from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--column", "clip_sim_dri"], "did you mean 'clip_sim_dir'"),
        (["--column", "lmm_status"], "has no score 'lmm_status'"),
        (["--column", "truth_gain", "--labels", "none.csv"], "no such file"),
        (["--column", "truth_gain", "--labels", "rows.txt"], "a table ends in"),
        (["--column", "truth_gain", "--labels", "bare.csv"], "no column 'label'"),
        (["--column", "truth_gain", "--labels", "alone.csv"], "needs the column key"),
        (["--column", "truth_gain", "--labels", "others.csv"], "no edited row has a label"),
    ],
)
def test_what_is_missing_is_named(run, monkeypatch, capsys, options, words):
    place, _ = run
    (place / "rows.txt").write_text("x")
    (place / "bare.csv").write_text("key,lable\na,1\n")
    (place / "alone.csv").write_text("label\n1\n")
    (place / "others.csv").write_text("key,label\nabc,1\n")
    monkeypatch.chdir(place)
    assert _calibrate(place, *options) == 2
    assert words in capsys.readouterr().err


def test_drawn_pairs_are_of_every_kind_and_the_same_every_time():
    found = [pair for pairs in sample_pairs("color", 6, 0) for pair in pairs]
    assert {pair.kind for pair in found} == set(KINDS)
    again = [pair for pairs in sample_pairs("color", 6, 0) for pair in pairs]
    for one, other in zip(found, again, strict=True):
        assert np.array_equal(one.edited, other.edited)
    for pair in found:
        true = next(p for p in found if p.edit == pair.edit and p.kind == "true")
        differs = (pair.edited != true.edited).any()
        assert differs == (pair.kind != "true")
        if pair.kind == "no-op":
            assert np.array_equal(pair.edited, pair.source)
        if pair.kind == "half-done":
            gain = 1 - _mse(pair.edited, true.edited) / _mse(pair.source, true.edited)
            assert 0.2 < gain < 0.75


def _mse(one, other):
    return ((one.astype(float) - other) ** 2).mean()


def test_bench_judge_calibrates_papercuts_judge(tmp_path, capsys):
    figures, page = tmp_path / "figures.json", tmp_path / "page.html"
    given = ["--edits", "2", "--edit-types", "color,replace", "--json", str(figures)]
    assert main(["bench", "judge", *given, "--html", str(page)]) == 0
    found = json.loads(figures.read_text())
    assert found["overall"]["num_good"] == 4
    assert {group["name"] for group in found["by_failure"]} <= set(KINDS) - {"true"}
    assert found["overall"]["auc"] > 0.5
    assert page.read_text().count("<svg viewBox") == 3
    assert "kinds of drawn edits" in capsys.readouterr().out
