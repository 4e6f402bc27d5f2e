"""The report as a page: what it says of a run, how many rows it shows, and what it lets in."""

import hashlib
import json
import re
import time
from base64 import b64encode
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from overpaint.cluster.worker.in_process import run_local
from overpaint.jobs.report.format import NOTHING
from overpaint.jobs.report.report import summarise_manifest, write_report
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.operators.forms.editeval import LMM_SCORE
from overpaint.pipeline.error_codes import ROW_ERRORS
from overpaint.pipeline.recipes.recipe import plan_from_tables
from overpaint.pipeline.runs import planning
from overpaint.pipeline.runs.folder import REPORT, RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image
from report_runs import HOSTILE, POLICY, SCHEMA, Page, declined, failed, planned_row, write_run
from toy_runs import planned_run, table_of, toy_plan, write_sources


def _mixed(num_rows):
    """Rows that end in every way."""
    rows = [planned_row(number) for number in range(num_rows)]
    for number in range(0, num_rows, 10):
        rows[number] = failed(rows[number], "edit", "out_of_memory", "18 GiB of 16 GiB")
        rows[number + 1] = declined(rows[number + 1], "find", "mask_empty", "nothing found")
        rows[number + 2] |= {"background_psnr_db": 20.0}
        rows[number + 3] |= {"background_psnr_db": 21.0, "clip_sim_dir": 0.95}
        rows[number + 4] |= {"clip_sim_dir": None}
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("report"), _mixed(100))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def page(run):
    return Page(run)


def test_ledger_counts_every_row(page):
    assert "100 planned = 50 accepted 50.0 % + 40 rejected 40.0 % + 10 failed 10.0 %" in page.text
    assert "complete" in page.text


def test_pending_rows_are_told(tmp_path):
    run = write_run(tmp_path, _mixed(20), num_pending=30)
    write_report(run)
    assert "50 planned" in Page(run).text
    assert "30 pending 60.0 %" in Page(run).text
    assert "unfinished" in Page(run).text


def test_endings_are_counted_by_stage_and_code(page):
    for code, stage in (("out_of_memory", "edit"), ("mask_empty", "find")):
        assert re.search(rf"{code} .*?\. {stage} 10 10\.0 %", page.text)


def test_endings_say_what_their_codes_mean(page):
    assert f"mask_empty {ROW_ERRORS['mask_empty']} find 10 10.0 %" in page.text


def test_policy_rules_are_counted_over_the_rows_it_judged(page):
    assert "background_psnr_db < 25 20 25.0 % 10" in page.text
    assert "clip_sim_dir > 0.9 10 12.5 % 0" in page.text
    assert "clip_sim_dir is null 10 12.5 % 10" in page.text
    assert "clip_sim_dir < 0.1 0 0 % 0" in page.text
    assert "80 rows" in page.text


def test_success_stands_beside_the_oracle_and_agrees_with_the_command_line(run, page):
    success = summarise_manifest(run).success.total
    shares = (success.successful / success.planned, success.oracle / success.measured)
    success_share, oracle_share = (f"{100 * share:.1f} %" for share in shares)
    rows = f"{success.successful} of {success.planned}"
    assert success.planned == 96
    assert f"all types {success_share} {rows} {oracle_share}" in page.text


def _edited(row, method, checkpoint, **settings):
    params = json.dumps({"method": method, "checkpoint": checkpoint, **settings})
    return row | {"method": method, "checkpoint": checkpoint, "params_json": params}


def test_methods_are_counted_with_their_settings_and_success(tmp_path):
    rows = [planned_row(number) | {"in_target_uri": None} for number in range(40)]
    for number in range(30):
        known = {"in_target_uri": "t.png", "truth_success": number < 3} if number < 10 else {}
        row = rows[number] | known
        rows[number] = _edited(row, "ddim", "papercut", strength=0.5 + 0.25 * (number % 2))
    for number in range(30, 38):
        rows[number] = _edited(rows[number], "sdedit", "owner/model", negative_prompt="")
    for number in range(38, 40):
        row = failed(rows[number], "edit", "prompt_missing", "no prompt")
        rows[number] = row | {"method": None}
    rows[0] |= {"background_psnr_db": 20.0}
    run = write_run(tmp_path, rows)
    write_report(run)
    text = Page(run).text
    assert "ddim papercut 30 96.7 % 30.0 % strength 0.5, 0.75" in text
    assert f"sdedit owner/model 8 100 % {NOTHING} " in text
    assert f"not edited 2 0 % {NOTHING} " in text


SDEDIT = {"operator": "edit", "method": "sdedit", "checkpoint": "papercut", "group": "edits"}
CHAIN = {
    "name": "chain",
    "stage": [
        {**SDEDIT, "name": "draft", "prefix": "draft_"},
        {**SDEDIT, "name": "refine", "reads": {"source_image": "draft_edited_image"}},
        {"operator": "score", "checkpoint": "papercut"},
        {"operator": "judge", "checkpoint": "papercut"},
        {"operator": "judge", "name": "critic", "prefix": "critic_", "checkpoint": "papercut"},
    ],
    "policy": POLICY,
}


def test_chained_edits_and_unlike_judges_are_told_apart(tmp_path):
    rows = [
        _edited(planned_row(number), "sdedit", "papercut", strength=0.75)
        | {"draft_method": "ddim", "draft_checkpoint": "other", "draft_params_json": '{"fit": 1}'}
        | {"lmm_score": 8.0, "critic_lmm_score": 3.0}
        for number in range(40)
    ]
    run = write_run(tmp_path, rows, plan=plan_from_tables(CHAIN, "chain.toml"))
    write_report(run)
    page = Page(run)
    assert "draft: ddim other 40 100 %" in page.text
    assert "fit 1 refine: sdedit papercut 40 100 %" in page.text
    for stage, score in (("judge", "lmm_score"), ("critic", "critic_lmm_score")):
        assert f"{score} {stage}: {LMM_SCORE.doc}" in page.text
    assert page.data["methods"] == ["draft_method", "method"]


def test_cut_prompts_are_counted_over_all_parts_and_rows_without_a_count_left_out(tmp_path):
    rows = [planned_row(number) | {"prompt_tokens_cut": 0} for number in range(5000)]
    for number in range(0, 5000, 200):
        rows[number] |= {"prompt_tokens_cut": 1 + number // 200}
    for number in range(1, 101):
        rows[number] = failed(rows[number], "edit", "prompt_missing", "no prompt")
        rows[number] |= {"prompt_tokens_cut": None}
    rows[7] |= {"draft_prompt_tokens_cut": 9}
    run = write_run(tmp_path, rows, plan=plan_from_tables(CHAIN, "chain.toml"))
    write_report(run)
    told = "prompts were longer than the text encoder of {} sees: {} is up to {}".format
    text = Page(run).text
    assert "25 of 4,900 " + told("refine", "prompt_tokens_cut", 25) in text
    assert "1 of 1 " + told("draft", "draft_prompt_tokens_cut", 9) in text
    assert "text encoder of score" not in text


def test_end_of_a_run_reads_each_part_of_the_manifest_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "PART_ROWS", 4)
    uris = write_sources(tmp_path / "input", 10)
    rows = [{"source_uri": uri, "instruction": "paint"} for uri in uris]
    run = planned_run(toy_plan(), table_of(rows, tmp_path / "input"), tmp_path / "run")
    reads = Counter()
    read = Storage.read

    def counted(storage, path):
        reads[path] += path.startswith("manifest/")
        return read(storage, path)

    monkeypatch.setattr(Storage, "read", counted)
    summary = execute(run, run_local, SilentDisplay())
    assert summary.ledger.accepted == 10
    assert run.folder.storage.exists(REPORT)
    assert {path: n for path, n in reads.items() if n} == {
        f"manifest/part-{part:05d}.parquet": 2 for part in range(3)
    }


def test_header_says_when_how_long_and_with_what(page):
    for text in ("recolor", "23 Nov 2026, 15:30 UTC", "4 min 0 s", "0.41 rows/s", "sha256:cccc"):
        assert text in page.text
    assert "edit 3 min 42 s 2.22 s" in page.text


def test_all_rows_are_shown_where_there_are_few(page):
    assert "All 100 rows." in page.text
    assert len(page.data["rows"]) == 100


def test_rows_have_their_values_and_pictures(page):
    row = page.data["rows"][5]
    thumbnails = page.data["thumbnails"]
    assert row["values"]["instruction"] == "make the circle number 5 blue"
    assert set(row["images"]) == {"source", "mask", "edited"}
    uri, width_px, height_px, is_crisp = thumbnails[row["images"]["edited"]]
    assert uri.startswith("data:image/")
    assert (width_px, height_px, is_crisp) == (64, 64, 1)
    assert page.data["shared"]["method"] == "toy"


def test_texts_of_rows_stay_texts(tmp_path):
    rows = [planned_row(number) for number in range(3)]
    rows[0] |= {"instruction": HOSTILE, "edit_type": HOSTILE}
    rows[1] = failed(rows[1], HOSTILE, HOSTILE, HOSTILE)
    run = write_run(tmp_path, rows, name=HOSTILE)
    write_report(run)
    page = Page(run)
    assert "<img src=x" not in page.html
    assert HOSTILE in page.text
    assert page.data["rows"][0]["values"]["instruction"] == HOSTILE


def test_policy_of_content_lets_in_only_what_is_in_the_page(page):
    (rules,) = [
        value for tag, name, value in page.attributes if tag == "meta" and name == "content"
    ][:1]
    for tag in ("style", "script"):
        digest = b64encode(hashlib.sha256(page.inlined(tag).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in rules
    assert "default-src 'none'" in rules
    assert "img-src data:" in rules


def test_page_asks_for_nothing(page):
    links = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not [value for _, name, value in page.attributes if name == "style" or name[:2] == "on"]


def test_pictures_that_cannot_be_shown_are_left_out(tmp_path):
    run = write_run(tmp_path, [planned_row(number) for number in range(4)])
    (tmp_path / "input" / "images" / "000.png").write_bytes(b"not a picture")
    (tmp_path / "input" / "images" / "001.png").unlink()
    (tmp_path / "run" / "images" / "02" / "002.png").write_bytes(b"")
    write_report(run)
    data = Page(run).data
    shown = [
        [data["thumbnails"][n] is not None for n in r["images"].values()] for r in data["rows"]
    ]
    assert shown == [[False, True, True], [False, True, True], [True, True, False], [True] * 3]


def test_folder_without_a_manifest_has_a_report(tmp_path):
    run = RunFolder(Storage(str(tmp_path / "run")))
    run.write_part("plan", 0, pa.table({"key": ["a", "b"]}))
    write_report(run)
    assert "2 planned" in Page(run).text
    assert Page(run).data["rows"] == []


def test_figures_that_no_axis_can_hold_are_counted(tmp_path):
    rows = [planned_row(number) for number in range(40)]
    for number, value in enumerate([float("inf"), float("-inf"), float("nan"), 1e300, None]):
        rows[number] |= {"truth_gain": value}
    run = write_run(tmp_path, rows)
    write_report(run)
    assert "2 not measured, 3 infinite" in Page(run).text
    assert Page(run).data["rows"][0]["values"]["truth_gain"] == "inf"


def test_equal_runs_have_equal_reports(run):
    before = run.storage.read(REPORT)
    write_report(run)
    assert run.storage.read(REPORT) == before


def test_many_columns_and_long_texts_are_cut(tmp_path):
    rows = [planned_row(number) | {"caption": f"{number} " + "x" * 100_000} for number in range(20)]
    run = write_run(tmp_path, rows)
    write_report(run)
    assert len(run.storage.read(REPORT)) < 300_000


def _manifest_of_100_000(tmp_path):
    """One odd part of 4,000 rows, and 24 ordinary ones that differ in their keys and edits."""
    odd = [planned_row(number) for number in range(4000)]
    odd[700] = failed(odd[700], "fetch", "image_truncated", "it ends early")
    odd[900] |= {"truth_gain": -30.0}
    for number in range(200):
        odd[number] = failed(odd[number], "edit", "out_of_memory", "too large")
    run = write_run(tmp_path, odd, size_px=(400, 300))
    ordinary = [planned_row(number) | {"status": "accepted"} for number in range(4000)]
    table = pa.Table.from_pylist(ordinary, SCHEMA)
    key_place, uri_place = (SCHEMA.names.index(name) for name in ("key", "edited_uri"))
    for part in range(1, 25):
        numbers = range(4000 * part, 4000 * (part + 1))
        keys = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in numbers]
        uris = [f"edited/{key}.png" for key in keys]
        some = table.set_column(key_place, SCHEMA.field("key"), pa.array(keys))
        some = some.set_column(uri_place, SCHEMA.field("edited_uri"), pa.array(uris))
        run.write_part("manifest", part, some)
        run.write_part("plan", part, some.select(["key", "source_uri"]))
    return run, odd


@pytest.mark.slow
def test_report_of_100_000_rows_is_a_sample_that_says_so(tmp_path):
    run, odd = _manifest_of_100_000(tmp_path)
    write_report(run)
    noise = np.random.default_rng(0)
    for row in Page(run).data["rows"]:
        if uri := row["values"].get("edited_uri"):
            path = tmp_path / "run" / uri
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)

    # What it costs, not what it takes beside whatever else the machine does.
    start_s = time.process_time()
    write_report(run)
    cost_s = time.process_time() - start_s
    page = Page(run)
    print(f"{cost_s:.1f} s, {len(page.html) / 1e6:.1f} MB")
    assert cost_s < 60
    assert len(page.html) < 12_000_000
    assert "600 of 100,000 rows" in page.text
    assert "99,799 accepted" in page.text
    shown = page.data["rows"]
    keys = {row["values"]["key"] for row in shown}
    assert len(shown) == len(keys) == 600
    assert odd[700]["key"] in keys
    assert odd[900]["key"] in keys
    codes = Counter(row["values"].get("error_code") for row in shown)
    assert codes["image_truncated"] == 1
    assert 99 <= codes["out_of_memory"] <= 101
