"""Prompts that are longer than the text encoder sees, from the command line to the report."""

import json

import pyarrow.parquet as pq
import pytest
from overpaint.jobs import run
from overpaint.jobs.cli import main
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image
from report_runs import Page

RECIPE = """
name = "long"
[[stage]]
operator = "mask"
checkpoint = "papercut"
threshold = 0.000001
group = "all"
[[stage]]
operator = "edit"
name = "draw"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 1
prefix = "draft_"
writes = { prompt_tokens_cut = "unseen", edited_image = "edited_image" }
group = "all"
[[stage]]
operator = "score"
checkpoint = "papercut"
group = "all"
"""
PLAIN = """
name = "whole"
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 1
group = "all"
"""
FILL = "a large circle on a white background and " * 8
PROMPTS = [f"{FILL}a red circle", f"{FILL}a blue star", "a red circle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    Image.new("RGB", (64, 64), "white").save(folder / "x.png")
    common = {"source_uri": "x.png", "seed": 7, "source_prompt": "a", "mask_phrase": "circle"}
    rows = [{**common, "target_prompt": prompt} for prompt in PROMPTS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "long.toml").write_text(RECIPE)
    (folder / "whole.toml").write_text(PLAIN)
    return folder


def edit(folder, recipe, output, *options):
    """Runs a recipe over the rows; returns the manifest's rows in the order of the input."""
    given = ("--input", str(folder), "--output", str(folder / output), "--no-ray", *options)
    assert main(["run", str(folder / recipe), *given]) == 0
    rows = pq.read_table(folder / output / "manifest/part-00000.parquet").to_pylist()
    return sorted(rows, key=lambda row: PROMPTS.index(row["target_prompt"]))


@pytest.fixture(scope="module")
def lost():
    """The tokens that each prompt loses, by the tokenizer called directly."""
    from transformers import CLIPTokenizer

    tokens = CLIPTokenizer.from_pretrained(f"{Checkpoint(name='papercut').path}/tokenizer")
    return [max(0, len(tokens(text)["input_ids"]) - tokens.model_max_length) for text in PROMPTS]


def page(folder, output):
    return Page(RunFolder(Storage(str(folder / output))))


def test_cut_prompts_are_told_in_the_manifest_the_report_and_the_last_lines(folder, lost, capfd):
    rows = edit(folder, "whole.toml", "cut")
    assert rows[0]["edited_sha256"] == rows[1]["edited_sha256"], "what differs is not seen"
    assert [row["prompt_tokens_cut"] for row in rows] == lost
    assert lost[0] > 0 == lost[2]
    sentence = (
        "2 of 3 prompts were longer than the text encoder of edit sees: prompt_tokens_cut is up to "
        f"{max(lost)}"
    )
    assert sentence in capfd.readouterr().out
    assert sentence in page(folder, "cut").text
    assert "prompt_tokens_cut" in page(folder, "cut").data["scores"], "the gallery sorts by it"
    assert "long_prompt" not in json.loads(rows[0]["params_json"])


def test_long_prompts_fail_where_the_recipe_says_so(folder, lost):
    rows = edit(folder, "whole.toml", "fail", "--set", "edit.long_prompt=fail")
    assert [row["error_code"] for row in rows] == ["prompt_too_long"] * 2 + [None]
    assert rows[0]["error_message"].startswith("target_prompt has ")
    assert rows[2]["prompt_tokens_cut"] == 0
    kept = edit(folder, "whole.toml", "kept")
    assert [row["key"] for row in rows] == [row["key"] for row in kept]
    assert rows[2] == kept[2]
    assert "prompts were longer" not in page(folder, "fail").text
    assert "prompt_tokens_cut" not in page(folder, "fail").data["scores"]


def test_every_stage_counts_for_itself_under_the_names_of_the_plan(folder, lost):
    rows = edit(folder, "long.toml", "all")
    assert [row["unseen"] for row in rows] == lost
    assert all(row["clip_prompt_tokens_cut"] > 0 for row in rows[:2])
    assert rows[2]["clip_prompt_tokens_cut"] == 0
    assert [row["mask_phrase_tokens_cut"] for row in rows] == [0, 0, 0]
    text = page(folder, "all").text
    assert f"than the text encoder of draw sees: unseen is up to {max(lost)}" in text
    assert "than the text encoder of score sees: clip_prompt_tokens_cut is up to" in text
    assert "mask_phrase_tokens_cut is up to" not in text


def test_run_from_python_tells_of_cut_prompts(folder, lost):
    given = {"input": str(folder), "ray": False}
    result = run(str(folder / "whole.toml"), output=str(folder / "python"), **given)
    (cut,) = result.cut_prompts.items()
    assert cut[0] == "prompt_tokens_cut"
    assert (cut[1].num_rows, cut[1].num_cut, cut[1].most) == (3, 2, max(lost))


def test_blank_prompt_takes_the_default_or_ends_as_missing(folder, tmp_path):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "x.png")
    rows = [{"source_uri": "x.png", "target_prompt": text} for text in ("", " \t", "a star")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = {}
    for name, settings in (("none", ()), ("default", ("row.target_prompt=a red circle",))):
        given = {"input": str(tmp_path), "ray": False, "settings": settings}
        result = run(str(folder / "whole.toml"), output=str(tmp_path / name), **given)
        results[name] = list(result.rows(["target_prompt", "status", "error_code"]))
    missing = {"status": "failed", "error_code": "prompt_missing"}
    assert [row | missing == row for row in results["none"]] == [True, True, False]
    assert {row["target_prompt"] for row in results["default"]} == {"a red circle", "a star"}
    assert {row["status"] for row in results["default"]} == {"accepted"}
