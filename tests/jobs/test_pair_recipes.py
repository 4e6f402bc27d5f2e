"""The shipped recipes of pairs, run on papercut from their input to an export, with fewer steps."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from export_runs import exported
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.recipes import load_plan, shipped
from overpaint.jobs.run_images import RunImages
from overpaint.pipeline.images import decode
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, RunFolder

WORDS = ("source_prompt", "target_prompt", "instruction", "edit_type")
FEW = {"edit.num_inference_steps": 4}
PACKED = {"output.images": "shards"}


def run(folder, recipe, source, output, *options, **settings):
    """A run of a shipped recipe in this process that accepts what it made; returns its manifest."""
    given = ["--input", str(folder / source), "--output", str(folder / output), "--no-ray"]
    given += [f"--set={name}={value}" for name, value in settings.items()]
    assert main(["run", recipe, *given, *options]) == 0
    assert main(["accept", str(folder / output), "--policy", "off"]) == 0
    assert main(["verify", str(folder / output)]) == 0
    return pq.read_table(folder / output / "manifest").to_pylist()


def pixels(folder, output, uri):
    return decode((folder / output / uri).read_bytes()).rgb.astype(float)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of drawn edits, and a table of their words alone."""
    folder = tmp_path_factory.mktemp("recipes")
    write_dataset(folder / "drawn", rows=4, seed=8)
    rows = [json.loads(line) for line in (folder / "drawn/rows.jsonl").read_text().splitlines()]
    texts = [
        {"source_uri": f"text {place}", **{name: row[name] for name in WORDS}, "license": "CC0"}
        for place, row in enumerate(rows[:2])
    ]
    same = {**texts[0], "source_uri": "same", "target_prompt": texts[0]["source_prompt"]}
    for name, some in (("texts", texts), ("same", [same])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


@pytest.fixture(scope="module")
def from_text(drawn):
    """A run of pairs from text, and its manifest."""
    few = {"row.candidates": 3, "draw.num_inference_steps": 4, "edit.batch_size": 2}
    few["draw.batch_size"] = 2
    return few, run(drawn, "pairs-from-text", "texts.jsonl", "from_text", **few)


def test_pairs_from_text_have_a_source_of_their_own_for_each_try(drawn, from_text):
    _, rows = from_text
    assert [row["status"] for row in rows] == ["accepted"] * 6
    assert len({row["drawn_uri"] for row in rows}) == 6
    assert len({row["source_sha256"] for row in rows}) == 6
    for row in rows:
        source, edited = (pixels(drawn, "from_text", row[n]) for n in ("drawn_uri", "edited_uri"))
        assert source.shape == edited.shape == (64, 64, 3)
        assert source.std() > 5
        assert np.abs(source - edited).mean() > 1


def test_both_pictures_of_a_pair_start_from_one_noise_at_one_scale(drawn, from_text):
    """Under the source's own prompt, the edit is the source again."""
    few, rows = from_text
    scales = {json.loads(row["params_json"])["guidance_scale"] for row in rows}
    assert scales == {5.0, 7.5}
    for row in run(drawn, "pairs-from-text", "same.jsonl", "same", **few):
        source, edited = (pixels(drawn, "same", row[n]) for n in ("drawn_uri", "edited_uri"))
        assert np.abs(source - edited).max() <= 1


def test_pairs_from_text_are_exported_with_the_tries_of_a_prompt_in_one_split(drawn, from_text):
    facts = exported(str(drawn / "from_text"), drawn / "ip2p", "ip2p", split="train=0.5,test=0.5")
    assert facts["examples"] == 6
    assert facts["sources"] == {"distinct": 6, "groups": 2}
    _, rows = from_text
    named = {row["key"]: row["source_uri"] for row in rows}
    splits = {}
    for one in pq.read_table(drawn / "ip2p/rows.parquet").to_pylist():
        splits.setdefault(named[one["key"]], set()).add(one["split"])
        assert one["in_license"] == "CC0"
    assert all(len(found) == 1 for found in splits.values())
    assert main(["verify", str(drawn / "ip2p")]) == 0


def test_drawn_sources_are_packed_with_their_edits(drawn, from_text):
    """One shard a task, and the same bytes as objects."""
    few, rows = from_text
    found = run(drawn, "pairs-from-text", "texts.jsonl", "packed", **few, **PACKED)
    images = [RunImages(RunFolder.at(str(drawn / name))) for name in ("from_text", "packed")]
    names = ("source_image", "edited_image", "mask_image")
    for row, packed in zip(rows, found, strict=True):
        for name in names:
            plain, member = (one.uri(r, name) for one, r in zip(images, (row, packed), strict=True))
            assert (plain is None) == (member is None)
            assert plain is None or images[0].read(plain) == images[1].read(member)
    stored = [p for name in OBJECT_FOLDERS for p in (drawn / "packed" / name).rglob("*.*")]
    assert len(stored) == 1
    assert stored[0].suffix == ".tar"
    assert main(["replay", str(drawn / "packed"), found[-1]["key"]]) == 0


def test_a_drawn_row_is_replayed_to_the_byte(drawn, from_text):
    _, rows = from_text
    assert main(["replay", str(drawn / "from_text"), rows[-1]["key"]]) == 0


def test_an_update_with_another_score_draws_nothing_again(drawn, from_text, capfd):
    few, _ = from_text
    before = run(drawn, "pairs-from-text", "texts.jsonl", "updated", **few)
    times = {p: p.stat().st_mtime_ns for p in (drawn / "updated/drawn").rglob("*.png")}
    after = run(
        drawn,
        "pairs-from-text",
        "texts.jsonl",
        "updated",
        "--update",
        **few,
        **{"score.batch_size": 3},
    )
    assert [row["edited_sha256"] for row in before] == [row["edited_sha256"] for row in after]
    assert {p: p.stat().st_mtime_ns for p in (drawn / "updated/drawn").rglob("*.png")} == times
    fewer = {**few, "row.candidates": 1}
    run(drawn, "pairs-from-text", "texts.jsonl", "updated", "--update", **fewer)
    assert len(list((drawn / "updated/drawn").rglob("*.png"))) == 2
    capfd.readouterr()


def test_removals_are_exported_as_additions_whose_target_is_the_untouched_picture(drawn):
    rows = run(drawn, "additions", "drawn/images", "removed", **FEW)
    edited = [row for row in rows if row["status"] == "accepted"]
    assert edited
    assert {row["edit_type"] for row in edited} == {"remove"}
    facts = exported(str(drawn / "removed"), drawn / "added", "ip2p", reverse=True)
    assert facts["examples"] == len([row for row in edited if row["inverse_instruction"]])
    (file,) = (drawn / "added").rglob("*train*.parquet")
    by_words = {row["inverse_instruction"]: row for row in edited}
    for one in pq.read_table(file).to_pylist():
        assert one["edit_prompt"].split()[0] in ("add", "put", "place", "draw")
        row = by_words[one["edit_prompt"]]
        untouched = decode((drawn / "drawn/images" / row["source_uri"]).read_bytes()).rgb
        assert np.array_equal(decode(one["edited_image"]["bytes"]).rgb, untouched)


def test_turns_count_on_and_lead_back_to_the_first_row(drawn):
    first = run(drawn, "turn", "drawn/images", "turn-1", **FEW)
    second = run(drawn, "turn", "turn-1", "turn-2", **FEW)
    third = run(drawn, "turn", "turn-2", "turn-3", "--map", "target_prompt=source_prompt", **FEW)
    accepted = {row["key"]: row for row in first if row["status"] == "accepted"}
    assert [row["in_turn"] for row in second] == [2] * len(accepted)
    for row in second:
        assert row["in_parent_key"] == row["in_chain_key"]
        parent = accepted[row["in_parent_key"]]
        assert row["source_uri"] == parent["edited_uri"]
        assert row["source_sha256"] == parent["edited_sha256"]
    before = {row["key"]: row for row in second}
    assert third
    for row in third:
        assert row["in_turn"] == 3
        parent = before[row["in_parent_key"]]
        assert row["in_chain_key"] == parent["in_chain_key"]
        assert row["source_prompt"] == parent["target_prompt"]
    outputs = [str(drawn / f"turn-{number}") for number in (1, 2, 3)]
    facts = exported(outputs, drawn / "chains", "ip2p", split="train=0.5,test=0.5")
    rows = pq.read_table(drawn / "chains/rows.parquet").to_pylist()
    assert facts["examples"] == len(rows)
    splits = {}
    for one in rows:
        assert (one["turn"] is None) == (one["parent_key"] is None)
        splits.setdefault(one["chain_key"] or one["key"], set()).add(one["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_a_column_that_the_last_turn_does_not_have_is_refused(drawn, capsys):
    given = ["--input", str(drawn / "turn-1"), "--output", str(drawn / "no"), "--no-ray"]
    assert main(["run", "turn", *given, "--map", "target_promp=source_prompt"]) == 2
    assert "did you mean 'target_prompt'" in capsys.readouterr().err
    assert main(["run", "turn", *given, "--map", "caption=source_uri"]) == 2
    assert "is that of the edited image" in capsys.readouterr().err


def test_preferences_and_prompts_are_exported_from_one_run(drawn):
    rows = run(drawn, "preferences", "drawn/images", "tried", **FEW)
    requests = {}
    for row in rows:
        if row["lmm_score"] is not None:
            requests.setdefault((row["source_uri"], row["instruction"]), []).append(row)
    assert all(len(tries) == 4 for tries in requests.values())
    facts = exported(str(drawn / "tried"), drawn / "dpo", "preference dpo")
    pairs = sum(
        sum(row["lmm_score"] < max(r["lmm_score"] for r in tries) for row in tries)
        for tries in requests.values()
    )
    assert facts["examples"] == pairs > 0
    facts = exported(
        str(drawn / "tried"), drawn / "rl", "rl flow-factory", split="train=0.5,test=0.5"
    )
    assert facts["examples"] == len(requests)


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("pairs-from-text")])
def test_both_stages_of_pairs_from_text_draw_from_the_same_scales(name):
    stages = {stage.name: stage.operator for stage in load_plan(name).stages}
    assert stages["draw"].vary["guidance_scale"] == stages["edit"].vary["guidance_scale"]
    assert stages["draw"].weights.name == stages["edit"].weights.name
