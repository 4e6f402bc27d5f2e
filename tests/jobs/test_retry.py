"""Rejected edits tried again: the next seed or editor, up to a bound, and nothing twice."""

import json
import tomllib

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.runs.retry import add_tries
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.recipe import plan_from_tables
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.record import existing_run
from overpaint.pipeline.runs.tries import MoreTries
from overpaint.pipeline.storage.store import Storage
from toy_runs import table_of, write_sources

RECIPE = """
[row]
candidates = {candidates}
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
[policy]
brightness = {{ min = {least} }}
{best}
[limits]
task_rows = 4
"""
TRIES = 4
NUM = 12


def _run(place, output, *options, candidates=1, least=0.0, best=""):
    text = RECIPE.format(candidates=candidates, least=least, best=best)
    (place / f"{output}.toml").write_text(text)
    given = ["--input", str(place / "input"), "--output", str(place / output), "--no-ray"]
    assert main(["run", str(place / f"{output}.toml"), *given, *options]) == 0
    return _rows(place, output)


def _retry(place, output, *options):
    return main(["redrive", str(place / output), "--rejected", "--no-ray", *options])


def _rows(place, output):
    return pq.read_table(place / output / "manifest").to_pylist()


def _edits(rows):
    """Rows of each edit, in order."""
    edits = {}
    for row in rows:
        edits.setdefault(row["source_uri"], []).append(row)
    return edits


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of sources, all tries at them, and a bound that a third of the tries keeps."""
    place = tmp_path_factory.mktemp("retry")
    names = write_sources(place / "input", NUM)
    rows = [{"source_uri": name, "instruction": "paint"} for name in names]
    rows[-1]["instruction"] = "reject"
    (place / "input/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = _run(place, "whole", candidates=TRIES)
    scores = sorted(row["brightness"] for row in whole if row["brightness"] is not None)
    return place, {row["key"]: row for row in whole}, scores[len(scores) * 2 // 3]


def _expected(whole, least):
    """Keys of the tries that should be made: of each edit up to the first that is accepted."""
    keys = set()
    for tries in _edits(whole.values()).values():
        for row in tries:
            keys.add(row["key"])
            if row["edited_uri"] is None or row["brightness"] >= least:
                break
    return keys


def test_an_edit_is_tried_until_one_try_is_accepted_and_nothing_is_edited_twice(place):
    folder, whole, least = place
    before = _run(folder, "once", least=least)
    written = {
        row["key"]: (folder / "once" / row["edited_uri"]).stat().st_mtime_ns
        for row in before
        if row["edited_uri"]
    }
    assert _retry(folder, "once", f"--tries={TRIES}") == 0
    after = _rows(folder, "once")
    assert {row["key"] for row in after} == _expected(whole, least)
    assert len(after) > NUM
    for row in after:
        planned_at_once = whole[row["key"]]
        for name in ("edited_sha256", "seed", "candidate", "brightness", "group_id"):
            assert row[name] == planned_at_once[name]
    for key, time_ns in written.items():
        path = folder / "once" / whole[key]["edited_uri"]
        assert path.stat().st_mtime_ns == time_ns
    assert main(["verify", str(folder / "once")]) == 0
    counts = json.loads((folder / "once/_SUCCESS.json").read_text())
    assert counts["planned"] == len(after)
    accepted = [row for row in after if row["status"] == "accepted"]
    assert counts["accepted"] == len(accepted)
    assert len({row["source_uri"] for row in accepted}) == len(accepted)


def test_another_call_with_the_same_bound_does_nothing(place):
    folder, _, least = place
    _run(folder, "again", least=least)
    assert _retry(folder, "again", "--tries=3") == 0
    before = {p: p.stat().st_mtime_ns for p in (folder / "again").rglob("*.parquet")}
    assert _retry(folder, "again", "--tries=3") == 0
    assert {p: p.stat().st_mtime_ns for p in (folder / "again").rglob("*.parquet")} == before


def test_a_run_that_stopped_between_rounds_goes_on_by_its_own_command(place):
    folder, whole, least = place
    _run(folder, "stopped", least=least)
    run = existing_run(RunFolder(Storage(str(folder / "stopped"))))
    added = add_tries(run, MoreTries(run.plan, TRIES))
    assert added > 0
    assert not run.folder.is_finished()
    rows = _run(folder, "stopped", least=least)
    assert len(rows) == NUM + added
    assert _retry(folder, "stopped", f"--tries={TRIES}") == 0
    assert {row["key"] for row in _rows(folder, "stopped")} == _expected(whole, least)


def test_the_best_is_chosen_among_all_tries_and_a_narrow_lead_is_tried_again(place):
    folder, _, _ = place
    best = 'best = { by = "brightness", min_margin = 0.01 }'
    _run(folder, "best", best=best, candidates=2)
    assert _retry(folder, "best", f"--tries={TRIES}") == 0
    edits = _edits(_rows(folder, "best"))
    assert {len(tries) for tries in edits.values()} & {3, 4}
    for tries in edits.values():
        accepted = [row for row in tries if row["status"] == "accepted"]
        assert len(accepted) <= 1
        if accepted:
            scores = sorted((row["brightness"] for row in tries), reverse=True)
            assert accepted[0]["brightness"] == scores[0]
            assert scores[0] - scores[1] >= 0.01
        elif tries[0]["edited_uri"]:
            assert len(tries) == TRIES


def test_an_update_with_as_many_candidates_keeps_what_was_tried(place, capfd):
    folder, _, least = place
    _run(folder, "grown", least=least)
    assert _retry(folder, "grown", "--tries=3") == 0
    known = len(_rows(folder, "grown"))
    capfd.readouterr()
    after = _run(folder, "grown", "--update", least=least, candidates=TRIES)
    assert f"{known} of {len(after)} rows have ended" in capfd.readouterr().out


def test_a_damaged_plan_is_written_again_without_the_further_tries(place):
    folder, _, least = place
    _run(folder, "damaged", least=least)
    assert _retry(folder, "damaged", "--tries=3") == 0
    tried = {row["key"] for row in _rows(folder, "damaged")}
    (folder / "damaged/plan/part-00000.parquet").write_bytes(b"garbage")
    assert main(["verify", str(folder / "damaged"), "--repair"]) == 3
    assert len(_run(folder, "damaged", least=least)) == NUM
    assert main(["verify", str(folder / "damaged"), "--repair"]) == 0
    assert main(["verify", str(folder / "damaged")]) == 0
    assert _retry(folder, "damaged", "--tries=3") == 0
    assert {row["key"] for row in _rows(folder, "damaged")} == tried


def test_seeds_that_the_table_gives_are_counted_on(place):
    folder, _, _ = place
    rows = [{"source_uri": "source-000.png", "instruction": "paint", "seed": 7}]
    for name, count in (("one", 1), ("three", 3)):
        text = RECIPE.format(candidates=count, least=0.99, best="")
        (folder / f"seeded_{name}.toml").write_text(text)
        table = folder / "input/seeded.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = ["--input", str(table), "--output", str(folder / f"seeded_{name}"), "--no-ray"]
        assert main(["run", str(folder / f"seeded_{name}.toml"), *given]) == 0
    assert _retry(folder, "seeded_one", "--tries=3") == 0
    found = _rows(folder, "seeded_one")
    assert [row["seed"] for row in found] == [7, 8, 9]
    wanted = _rows(folder, "seeded_three")
    assert [row["edited_sha256"] for row in found] == [row["edited_sha256"] for row in wanted]


EDITORS = """
[row]
candidates = {candidates}
edits = [{{ method = "sdedit" }}, {{ method = "infedit" }}]
[[stage]]
operator = "edit"
group = "all"
[stage.choices.sdedit]
[stage.choices.infedit]
[stage.choices.cycle]
method = "sdedit"
strength = 0.3
"""
WORDS = {"source_prompt": "a red star", "target_prompt": "a blue star", "instruction": "blue"}


def _planned(candidates):
    plan = plan_from_tables(tomllib.loads(EDITORS.format(candidates=candidates)), "x.toml")
    rows = [{"source_uri": f"{name}.png", **WORDS} for name in "ab"]
    table, _ = next(plan_parts(plan, table_of(rows)))
    return plan, table.to_pylist()


def _ended(planned, accepted=()):
    return [
        {
            "edited_uri": "images/x.png",
            "status": "accepted" if row["key"] in accepted else "rejected",
        }
        for row in planned
    ]


def test_editors_take_turns_and_the_one_that_tried_least_is_next():
    plan, planned = _planned(1)
    by_key = {row["key"]: row for row in _planned(3)[1]}
    first, *_ = planned
    more = MoreTries(plan, 6)
    for count in (3, 4, 5, 6):
        rows = more.added(planned, _ended(planned, {first["key"]}))
        assert [row for row in rows if row["source_uri"] == "a.png"] == planned[:2]
        assert len(rows) == 2 + count
        planned = rows
    assert more.added(planned, _ended(planned, {first["key"]})) == []
    tried = [row for row in planned if row["source_uri"] == "b.png"]
    assert [(row["in_method"], row["candidate"]) for row in tried] == [
        *(("sdedit", 0), ("infedit", 0), ("sdedit", 1), ("infedit", 1), ("sdedit", 2)),
        ("infedit", 2),
    ]
    assert all(by_key[row["key"]] == row for row in planned)


def test_another_editor_comes_before_another_seed():
    plan, planned = _planned(1)
    rows = MoreTries(plan, 3, ["cycle"]).added(planned, _ended(planned))
    new = [row for row in rows if row not in planned]
    assert [(row["in_method"], row["candidate"]) for row in new] == [("cycle", 0)] * 2
    with pytest.raises(UsageError, match="did you mean 'cycle'"):
        MoreTries(plan, 3, ["cycel"]).added(planned, _ended(planned))


def test_edits_that_failed_or_were_never_made_are_not_tried_again():
    plan, planned = _planned(1)
    failed = [{"edited_uri": None, "status": "failed"} for _ in planned]
    declined = [{"edited_uri": None, "status": "rejected"} for _ in planned]
    assert MoreTries(plan, 9).added(planned, failed) == []
    assert MoreTries(plan, 9).added(planned, declined) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rejected", "--tries", "1"], "give 2 or more"),
        (["--rejected", "--method", "sdedit"], "choose no method"),
        (["--rejected", "--error-code", "nan_in_result"], "give one"),
        (["--method", "sdedit"], "give it with --rejected"),
    ],
)
def test_wrong_options_are_one_sentence(options, words, place, capsys):
    folder, _, _ = place
    if not (folder / "refused").exists():
        _run(folder, "refused", least=0.99)
        capsys.readouterr()
    assert main(["redrive", str(folder / "refused"), "--no-ray", *options]) == 2
    assert words in capsys.readouterr().err
