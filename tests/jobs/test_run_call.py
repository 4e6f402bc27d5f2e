"""Runs from Python: the same as the command's, with a plan that no recipe describes."""

import pytest
from overpaint.jobs import RunResult, run
from overpaint.jobs.cli import main
from overpaint.pipeline.errors import BudgetError, UsageError
from toy_runs import outputs, toy_plan, write_sources

RECIPE = """
[row]
instruction = "paint"
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[limits]
task_rows = 2
"""


@pytest.fixture
def place(tmp_path):
    write_sources(tmp_path / "input", 4)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def _run(place, recipe, output="run", **options):
    folders = {"input": str(place / "input"), "output": str(place / output)}
    return run(recipe, **folders, ray=False, **options)


def test_call_gives_the_bytes_of_the_command(place):
    recipe = str(place / "recipe.toml")
    result = _run(place, recipe)
    given = ["--input", str(place / "input"), "--output", str(place / "command"), "--no-ray"]
    assert main(["run", recipe, *given]) == 0
    assert outputs(result.uri) == outputs(str(place / "command"))


def test_call_takes_a_plan_and_tells_how_its_rows_ended(place):
    result = _run(place, toy_plan(row={"instruction": "paint"}))
    assert isinstance(result, RunResult)
    assert (result.ledger.planned, result.ledger.accepted) == (4, 4)
    assert result.success == {}
    accepted = list(result.rows(["edited_uri", "brightness"], {"status": "accepted"}))
    assert [row.keys() for row in accepted] == [{"edited_uri", "brightness"}] * 4


def test_call_goes_on_with_a_run_and_refuses_another(place):
    recipe = str(place / "recipe.toml")
    first = _run(place, recipe)
    assert _run(place, recipe) == first
    with pytest.raises(UsageError, match="another run"):
        _run(place, recipe, limit=2)
    assert _run(place, recipe, limit=2, update=True).ledger.planned == 2


def test_call_raises_what_the_command_exits_with(place):
    with pytest.raises(UsageError, match="no such input"):
        run(toy_plan(), input=str(place / "nothing"), output=str(place / "run"), ray=False)
    with pytest.raises(UsageError, match="settings"):
        _run(place, toy_plan(), settings=["edit.strength=1"])
    for source in (place / "input").iterdir():
        source.write_bytes(b"no image")
    with pytest.raises(BudgetError):
        _run(place, toy_plan(row={"instruction": "x"}, budget={"min_rows": 2}))


def test_call_shows_nothing_of_itself(place, capsys):
    _run(place, str(place / "recipe.toml"))
    assert capsys.readouterr() == ("", "")


def test_package_has_no_other_calls():
    import overpaint.jobs

    with pytest.raises(AttributeError):
        _ = overpaint.jobs.walk


BEST = """
brightness = { min = 0.0 }
best = { by = "brightness" }
"""


def test_best_of_several_tries_is_chosen_in_the_run_and_again_by_another_policy(place, capsys):
    text = RECIPE.replace("[row]", "[row]\ncandidates = 3")
    scoring = '[[stage]]\noperator = "toy_operators:ToyScore"\nname = "score"\n'
    recipe = place / "best.toml"
    recipe.write_text(f"{text}{scoring}[policy]{BEST}")
    result = _run(place, str(recipe))
    assert (result.ledger.accepted, result.ledger.rejected) == (4, 8)
    best = {row["key"] for row in result.rows(["key"], {"status": "accepted"})}
    tries = list(result.rows(["key", "source_uri", "brightness"]))
    for row in tries:
        rivals = [t["brightness"] for t in tries if t["source_uri"] == row["source_uri"]]
        assert (row["key"] in best) is (row["brightness"] == max(rivals))
    assert main(["accept", result.uri, "--policy", "off"]) == 0
    assert "accepted 12 + rejected 0" in capsys.readouterr().out
    (place / "lowest.toml").write_text('best = { by = "brightness", order = "lowest" }')
    assert main(["accept", result.uri, "--policy", str(place / "lowest.toml")]) == 0
    worst = {row["key"] for row in result.rows(["key"], {"status": "accepted"})}
    assert len(worst) == 4
    assert not worst & best
    assert main(["accept", result.uri, "--policy", "of"]) == 2
    assert "none of that name comes along: did you mean 'off'" in capsys.readouterr().err
