"""Options of commands: what a command line gives, and the command line that gives it again."""

import pytest
from cyclopts import App, CycloptsError
from hypothesis import given
from hypothesis import strategies as st
from overpaint.jobs.cli import main
from overpaint.jobs.options import InputOptions, RunOptions
from overpaint.pipeline.errors import UsageError

app = App(name="options")


@app.default
def _options(*, options: RunOptions) -> RunOptions:
    return options


def parsed(arguments):
    return app(arguments, exit_on_error=False, print_error=False, result_action="return_value")


texts = st.text(st.characters(codec="utf-8"), max_size=12)
uris = st.sampled_from(["/data/in put", "s3://bucket/a", "/x=y", "/--limit"])
options = st.builds(
    RunOptions,
    input=uris,
    output=uris,
    limit=st.none() | st.integers(0, 10**6),
    settings=st.lists(texts, max_size=3),
    mapping=st.lists(texts, max_size=3),
    base=st.none() | uris,
    keep=st.lists(texts, max_size=3),
    update=st.booleans(),
    if_idle=st.booleans(),
    budget_gpu_hours=st.none() | st.floats(0.001, 1e6),
    insecure_cluster=st.booleans(),
)


@given(options)
def test_arguments_give_the_options_again(options):
    assert parsed(options.to_arguments()) == options


def test_arguments_of_a_local_path_hold_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = parsed(["--input", "in", "--output=out/", "--base", "."])
    assert (there.input, there.output) == (f"{tmp_path}/in", f"{tmp_path}/out")
    assert there.base == str(tmp_path)


def test_option_that_is_misspelled_is_refused():
    with pytest.raises(CycloptsError, match="--input"):
        parsed(["--inputt", "x", "--output", "y"])


@pytest.mark.parametrize("entry", ["", "a", "=b", "a="])
def test_mapping_that_names_no_two_columns_is_refused(entry):
    options = InputOptions(input="/x", mapping=[entry])
    with pytest.raises(UsageError) as caught:
        options.input_request()
    assert repr(entry) in str(caught.value)


def test_mapping_gives_new_names_by_old_ones():
    request = InputOptions(input="/x", mapping=["a=b", "c=d=e"]).input_request()
    assert request.mapping == {"a": "b", "c": "d=e"}


@pytest.mark.parametrize("command", ["run", "plan", "submit"])
def test_help_of_a_command_tells_every_option_of_the_input(command, capsys):
    main([command, "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in ("--input", "--limit", "--set", "--map", "--base"))
    assert "stage.field=value" in said
