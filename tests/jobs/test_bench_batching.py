"""`bench batching`: gains of batches, measured once, with equal bytes in every turn."""

import json

import pytest
from overpaint.jobs.cli import main

_MEASURED = ["bench", "batching", "--steps", "1", "--turns", "1"]


@pytest.mark.slow
def test_command_measures_a_recipe_once_and_keeps_those_that_are_there(tmp_path, capfd):
    file = tmp_path / "figures.json"
    assert main([*_MEASURED, "--methods", "sdedit,dps", "--json", str(file)]) == 0
    rows = {row["recipe"]: row for row in json.loads(file.read_text())["rows"]}
    assert {name: row["differentiates"] for name, row in rows.items()} == {
        "sdedit": False,
        "dps": True,
    }
    for row in rows.values():
        assert row["rows"] == 8
        assert row["least"] == (0.97 if row["differentiates"] else 1.3)
        assert row["gain_cpu"] == row["cpu_s_single"] / row["cpu_s"]
        assert row["holds"] == (row["gain_cpu"] >= row["least"])
        assert row["most_levels"] <= 1, "a batch changes the last digit of a sum at most"
    assert main([*_MEASURED, "--methods", "sdedit", "--json", str(file)]) == 0
    assert {row["recipe"]: row for row in json.loads(file.read_text())["rows"]} == rows
    assert "sdedit" in capfd.readouterr().out


def test_command_refuses_what_is_not_there_and_files_of_others(tmp_path, capfd):
    assert main([*_MEASURED, "--methods", "sdedt"]) == 2
    assert "did you mean 'sdedit'" in capfd.readouterr().err
    file = tmp_path / "figures.json"
    file.write_text('{"rows": [{"fault": "slow_store"}]}')
    assert main([*_MEASURED, "--methods", "sdedit", "--json", str(file)]) == 2
    assert "not figures of `bench batching`" in capfd.readouterr().err
