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


def _run_table(tmp_path, sources, *options):
    """Runs a recipe of no model over a table with a folder of its own."""
    (tmp_path / "table").mkdir(exist_ok=True)
    (tmp_path / "table/t.csv").write_text("\n".join(["source_uri", *sources, ""]))
    (tmp_path / "recipe.toml").write_text(NEGATIVE)
    given = ["--input", str(tmp_path / "table/t.csv"), "--output", str(tmp_path / "run")]
    return main(["run", str(tmp_path / "recipe.toml"), *given, "--no-ray", *options])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{}.png", ["no file is there", "--base"]),
        ("/nowhere/{}.png", ["allow_local_files", "--set fetch.allow_local_files=true"]),
        ("../{}.png", ["outside", "--set fetch.allow_local_files=true"]),
    ],
)
def test_table_none_of_whose_sources_can_be_read_is_refused(tmp_path, capsys, source, words):
    sources = [source.format(number) for number in range(100)]
    assert _run_table(tmp_path, sources) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert source.format(0) in said
    assert not (tmp_path / "run").exists()


def test_sources_outside_the_folder_are_read_with_the_setting_that_is_named(
    drawn, tmp_path, capsys
):
    sources = sorted(map(str, (drawn / "images").iterdir()))
    assert _run_table(tmp_path, sources) == 2
    assert _run_table(tmp_path, sources, "--set", "fetch.allow_local_files=true") == 0
    assert f"accepted {len(sources)}" in capsys.readouterr().out


def test_first_source_that_is_missing_costs_its_row_alone(drawn, tmp_path, capsys):
    names = sorted(path.name for path in (drawn / "images").iterdir())
    sources = ["missing.png", *names]
    assert _run_table(tmp_path, sources, "--base", str(drawn / "images")) == 0
    assert f"accepted {len(names)} + rejected 0 + failed 1" in capsys.readouterr().out


def test_columns_whose_names_are_slips_are_told(drawn, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[row]\ntarget_prompt = "x"\n[[stage]]\noperator = "edit"\nmethod = "sdedit"\n'
    )
    image = next((drawn / "images").iterdir())
    header = "source_uri, target_prompt,Guidance-Scale,mask_uri"
    (tmp_path / "t.csv").write_text(f"{header}\n{image.name},a,2,m.png\n")
    given = ["--input", str(tmp_path / "t.csv"), "--base", str(image.parent)]
    assert main(["plan", str(recipe), *given]) == 0
    said = capsys.readouterr().out
    assert "' target_prompt' is not read: did you mean 'target_prompt'?" in said
    assert "'Guidance-Scale' is not read: did you mean 'guidance_scale'?" in said
    assert "'mask_uri' is not read" not in said
    assert "given, but not read by this recipe: mask_uri" in said
