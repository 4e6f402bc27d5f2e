"""Rows that choose their editing method, two judges, and edits in a chain."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

STAGE = {
    "invert": """
[[stage]]
operator = "invert"
checkpoint = "papercut"
num_inference_steps = 4
batch_size = 2
group = "all"
""",
    "sdedit": """
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 4
batch_size = 2
group = "all"
""",
    "ddim": """
[[stage]]
operator = "edit"
method = "ddim"
checkpoint = "papercut"
batch_size = 2
group = "all"
""",
    "choices": """
[[stage]]
operator = "edit"
checkpoint = "papercut"
batch_size = 2
group = "all"
[stage.choices.sdedit]
num_inference_steps = 4
[stage.choices.ddim]
[stage.choices.strong]
method = "sdedit"
num_inference_steps = 4
strength = 1.0
""",
}
METHODS = ["sdedit", "ddim", "strong"]


def run(folder: Path, output: str, stages: str, rows, *arguments) -> list[dict]:
    """A run over rows; returns its manifest."""
    table = folder / "drawn/rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / f"{output}.toml"
    recipe.write_text(f'name = "{output}"\n{stages}')
    options = ("--no-ray", "--input", str(folder / "drawn"), "--output", str(folder / output))
    assert main(["run", str(recipe), *options, *arguments]) == 0
    parts = sorted((folder / output / "manifest").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with drawn edits, and their rows."""
    folder = tmp_path_factory.mktemp("choices")
    write_dataset(folder / "drawn", rows=6, seed=8)
    lines = (folder / "drawn/rows.jsonl").read_text().splitlines()
    return folder, [json.loads(line) for line in lines]


def test_rows_choose_their_method_and_keep_key_and_pixels_of_a_plan_with_it_alone(drawn):
    folder, rows = drawn
    mixed = [{**row, "method": METHODS[index % 3]} for index, row in enumerate(rows)]
    chosen = run(folder, "mixed", STAGE["invert"] + STAGE["choices"], mixed)
    assert [row["in_method"] for row in chosen] == [row["method"] for row in mixed]
    assert [row["method"] for row in chosen] == ["sdedit", "ddim", "sdedit"] * 2
    assert [json.loads(row["params_json"]).get("strength") for row in chosen[:3]] == [0.7, 0.8, 1.0]
    for name, stages in (("sdedit", "sdedit"), ("ddim", "invert ddim")):
        text = "".join(STAGE[stage] for stage in stages.split())
        alone = {row["key"]: row for row in run(folder, f"only_{name}", text, rows)}
        same = [row for row in chosen if row["in_method"] == name]
        assert len(same) == 2
        for row in same:
            assert row["edited_sha256"] == alone[row["key"]]["edited_sha256"]
            assert row["fingerprint"] == alone[row["key"]]["fingerprint"]


def test_another_choice_keeps_what_was_edited(drawn, capfd):
    folder, rows = drawn
    mixed = [{**row, "method": METHODS[index % 2]} for index, row in enumerate(rows)]
    stages = STAGE["invert"] + STAGE["choices"]
    before = run(folder, "grown", stages, mixed)
    more = stages + "[stage.choices.weak]\nmethod = 'sdedit'\nstrength = 0.3\n"
    mixed[-1]["method"] = "weak"
    after = run(folder, "grown", more, mixed, "--update")
    kept = {row["key"] for row in before} & {row["key"] for row in after}
    assert len(kept) == len(rows) - 1
    assert "5 of 6 rows have ended" in capfd.readouterr().out, "one row was edited"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"edit_params": "{"}, "edit_params_invalid"),
        ({"edit_params": '{"strenth": 0.5}'}, "edit_params_invalid"),
        ({"strength": 7.0}, "edit_params_invalid"),
    ],
)
def test_wrong_settings_of_a_row_fail_that_row_alone(columns, code, drawn):
    folder, rows = drawn
    broken = [dict(rows[0]), {**rows[1], **columns}, dict(rows[2])]
    name = f"broken_{abs(hash(str(columns)))}"
    ended = run(folder, name, STAGE["sdedit"], broken)
    assert [row["error_code"] for row in ended] == [None, code, None]


def test_settings_of_a_row_change_its_key_and_its_picture(drawn):
    folder, rows = drawn
    plain = [{**row, "seed": 5} for row in rows[:2]]
    own = [{**plain[0], "strength": 0.2}, {**plain[1], "edit_params": '{"strength": 0.2}'}]
    before = run(folder, "plain", STAGE["sdedit"], plain)
    after = run(folder, "own", STAGE["sdedit"], own)
    assert [json.loads(row["params_json"])["strength"] for row in after] == [0.2, 0.2]
    for one, other in zip(before, after, strict=True):
        assert one["key"] != other["key"]
        assert one["edited_sha256"] != other["edited_sha256"]


def test_unknown_choice_is_refused_before_anything_is_started(drawn, capfd):
    folder, rows = drawn
    table = folder / "drawn/rows.jsonl"
    table.write_text(json.dumps({**rows[0], "method": "sdedi"}) + "\n")
    (folder / "wrong.toml").write_text('name = "x"\n' + STAGE["invert"] + STAGE["choices"])
    options = ("--no-ray", "--input", str(folder / "drawn"), "--output", str(folder / "wrong"))
    assert main(["run", str(folder / "wrong.toml"), *options]) == 2
    assert "did you mean 'sdedit'" in capfd.readouterr().err


def test_plan_counts_an_inversion_only_for_rows_whose_method_needs_it(drawn, capfd):
    folder, rows = drawn
    mixed = [
        {**row, "method": "ddim" if index == 0 else "sdedit"} for index, row in enumerate(rows)
    ]
    (folder / "drawn/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    (folder / "costs.toml").write_text('name = "x"\n' + STAGE["invert"] + STAGE["choices"])
    assert main(["plan", str(folder / "costs.toml"), "--input", str(folder / "drawn")]) == 0
    lines = capfd.readouterr().out.splitlines()
    (inverted,) = [line for line in lines if line.split()[:1] == ["invert"] and "forward" in line]
    assert " 4 forward" in inverted, "4 steps of one source"
