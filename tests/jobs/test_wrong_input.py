"""Wrong recipes, inputs and options: exit code 2 before Ray starts, one sentence that helps."""

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

NEGATIVE = '[[stage]]\noperator = "negative"\n'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=4, seed=3)
    return folder


WRONG = {
    "unknown operator": ('[[stage]]\noperator = "masc"', ["stage 1", "'masc'", "'mask'"]),
    "unknown field": ('[[stage]]\noperator = "mask"\ntreshold = 0.4', ["treshold", "'threshold'"]),
    "wrong type": ('[[stage]]\noperator = "mask"\nthreshold = "high"', ["threshold", "number"]),
    "out of range": ('[[stage]]\noperator = "mask"\nthreshold = 3.0', ["threshold", "less than 1"]),
    "two writers": (
        '[[stage]]\noperator = "mask"\n[[stage]]\noperator = "mask"\nname = "again"',
        ["'mask'", "'again'", "mask_image"],
    ),
    "column nobody wrote": ('[[stage]]\noperator = "score"', ["'score'", "edited_image"]),
    "missing checkpoint": (
        '[[stage]]\noperator = "mask"\ncheckpoint = "papercat"',
        ["'mask'", "papercat", "'papercut'"],
    ),
    "no such GPU": (NEGATIVE + "[group.negative]\nnum_gpus = 8", ["8 GPU", "negative"]),
    "unknown table": (NEGATIVE + "[polisy]\n", ["polisy", "'policy'"]),
    "unknown score": (NEGATIVE + "[policy]\nclip = { min = 1 }", ["policy", "'clip'"]),
    "candidates that are equal": (
        "[row]\ncandidates = 2\n" + NEGATIVE,
        ["row.candidates = 2", "seed"],
    ),
    "not TOML": ("name = ]", ["not TOML", "line 1"]),
    "split group": (
        '[[stage]]\noperator = "caption"\ngroup = "g"\n[[stage]]\noperator = "mask"\n'
        '[[stage]]\noperator = "truth"\ngroup = "g"',
        ["'g'", "split"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_recipe_is_one_sentence_and_starts_nothing(case, drawn, tmp_path, capsys):
    text, words = WRONG[case]
    recipe = tmp_path / "wrong.toml"
    recipe.write_text(text)
    output = tmp_path / "run"
    assert main(["run", str(recipe), "--input", str(drawn), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert said.count("\n") == 1, said
    assert not output.exists()


def test_no_such_input_is_refused(tmp_path, capsys):
    recipe = tmp_path / "negative.toml"
    recipe.write_text(NEGATIVE)
    missing = str(tmp_path / "nothing")
    assert main(["run", str(recipe), "--input", missing, "--output", str(tmp_path / "run")]) == 2
    assert "no such input" in capsys.readouterr().err


def test_output_of_another_run_is_refused(drawn, tmp_path, capsys):
    recipe = tmp_path / "negative.toml"
    recipe.write_text(NEGATIVE)
    given = ["--input", str(drawn), "--output", str(tmp_path / "run"), "--no-ray"]
    assert main(["run", str(recipe), *given, "--set", "negative.batch_ms=0"]) == 0
    assert main(["run", str(recipe), *given, "--set", "negative.batch_ms=1"]) == 0
    recipe.write_text(f'{NEGATIVE}[[stage]]\noperator = "score"\nuse_clip = false\n')
    assert main(["run", str(recipe), *given]) == 2
    said = capsys.readouterr().err
    assert "another run" in said
    assert "stage" in said


def test_output_with_foreign_files_is_refused(drawn, tmp_path, capsys):
    recipe = tmp_path / "negative.toml"
    recipe.write_text(NEGATIVE)
    output = tmp_path / "run"
    output.mkdir()
    (output / "thesis.docx").write_bytes(b"years of work")
    assert main(["run", str(recipe), "--input", str(drawn), "--output", str(output)]) == 2
    assert "thesis.docx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "dem", "--input", "x", "--output", "y"], "'demo'"),
        (["run", "demo", "--input", "x", "--output", "y", "--set", "mask=3"], "stage.field=value"),
        (["run", "demo", "--input", "x", "--output", "y", "--set", "mass.threshold=1"], "'mask'"),
        (["status", "nowhere"], "no run there"),
        (["frobnicate"], "frobnicate"),
        (["run", "demo", "--inputt", "x"], "--input"),
    ],
)
def test_wrong_command_is_refused(arguments, word, capsys):
    assert main(arguments) == 2
    assert word in capsys.readouterr().err
