"""Which candidates become examples: by rank, by margin, by what can be paired at all."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from export_runs import exported, files, key_of, noise, row, write_finished
from overpaint.jobs.cli import main
from overpaint.pipeline.errors import UsageError
from PIL import Image


def names(folder):
    return {one["name"] for one in pq.read_table(folder / "rows.parquet").to_pylist()}


def ranked(*scores, number=0, **values):
    """Candidates of one request with these scores."""
    return [row(number, n, lmm_score=score, **values) for n, score in enumerate(scores)]


def test_best_is_one_a_request_and_ties_go_by_key(tmp_path):
    rows = [*ranked(5, 8, 6), *ranked(7, 7, number=1), *ranked(None, 4, number=2)]
    run = write_finished(tmp_path, [*rows, *ranked(None, number=3)])
    facts = exported(run, tmp_path / "x", "ip2p", best=True)
    first = min(key_of("1 0"), key_of("1 1"))
    assert names(tmp_path / "x") == {key_of("0 1"), first, key_of("2 1")}
    assert facts["left_out"] == {"no_rank": 2, "not_best": 3}
    assert facts["policy"]["rank_by"] == "lmm_score"


def test_requests_with_other_masks_are_not_one(tmp_path):
    rows = [row(0, n, in_mask_uri=f"masks/{n}.png") for n in range(2)]
    run = write_finished(tmp_path, rows)
    assert exported(run, tmp_path / "x", "ip2p", best=True)["examples"] == 2


def test_rank_can_be_another_column(tmp_path):
    rows = [row(0, n, lmm_score=n, clip_sim_dir=-n) for n in range(3)]
    run = write_finished(tmp_path, rows)
    exported(run, tmp_path / "x", "ip2p", best=True, rank_by="clip_sim_dir")
    assert names(tmp_path / "x") == {key_of("0 0")}
    with pytest.raises(UsageError, match="did you mean 'lmm_score'"):
        exported(run, tmp_path / "y", "ip2p", best=True, rank_by="lm_score")


def test_margin_is_the_lead_over_the_next_candidate(tmp_path):
    rows = [*ranked(5, 8, 7), *ranked(5, 8, number=1), *ranked(9, number=2)]
    run = write_finished(tmp_path, rows)
    facts = exported(run, tmp_path / "x", "ip2p", best=True, min_margin=2)
    assert names(tmp_path / "x") == {key_of("1 1"), key_of("2 0")}
    assert facts["left_out"] == {"margin": 3, "not_best": 1}


def test_rejected_rows_are_left_out_unless_all_are_asked_for(tmp_path):
    rejected = row(1, status="rejected", lmm_score=1)
    failed = row(2, status="failed", edited=None)
    run = write_finished(tmp_path, [row(0), rejected, failed])
    facts = exported(run, tmp_path / "x", "ip2p")
    assert (facts["examples"], facts["left_out"]) == (1, {"rejected": 1})
    assert exported(run, tmp_path / "y", "ip2p", all_rows=True)["examples"] == 2
    assert "rejected ones too" in (tmp_path / "y/README.md").read_text()


def test_preferences_are_never_ties_and_their_winners_are_accepted(tmp_path):
    rows = [
        *ranked(8, 8, 5),
        row(1, 0, lmm_score=6),
        row(1, 1, lmm_score=9, status="rejected"),
        row(1, 2, lmm_score=2, status="rejected"),
        *ranked(4, number=2),
        *ranked(1, 2, number=3, status="rejected"),
    ]
    run = write_finished(tmp_path, rows)
    facts = exported(run, tmp_path / "x", "preference longcat")
    best = min(key_of("0 0"), key_of("0 1"))
    assert names(tmp_path / "x") == {
        f"{best}-{key_of('0 2')}",
        f"{key_of('1 0')}-{key_of('1 2')}",
    }
    assert facts["left_out"] == {"better_but_rejected": 1, "no_loser": 1, "no_winner": 2, "tie": 1}
    facts = exported(run, tmp_path / "y", "preference longcat", min_margin=3.5)
    assert names(tmp_path / "y") == {f"{key_of('1 0')}-{key_of('1 2')}"}


def test_duplicates_are_exported_once_also_from_two_runs(tmp_path):
    again = row(0, 5, edited=np.asarray(row(0)["edited"]))
    one = write_finished(tmp_path / "one", [row(0), again, row(1)])
    two = write_finished(tmp_path / "two", [row(1), row(2), row(3, 1)], name="second")
    facts = exported([one, two], tmp_path / "x", "ip2p")
    assert facts["left_out"] == {"duplicate": 2}
    assert names(tmp_path / "x") == {key_of(f"{n} 0") for n in range(3)} | {key_of("3 1")}
    assert [run["recipe"] for run in facts["runs"]] == ["recolor", "second"]
    assert main(["verify", str(tmp_path / "x")]) == 0


def test_candidates_of_one_request_may_be_of_several_runs(tmp_path):
    one = write_finished(tmp_path / "one", ranked(5))
    two = write_finished(tmp_path / "two", [row(0, 7, lmm_score=6)])
    exported([one, two], tmp_path / "x", "ip2p", best=True)
    assert names(tmp_path / "x") == {key_of("0 7")}
    exported([one, two], tmp_path / "y", "preference dpo")
    assert names(tmp_path / "y") == {f"{key_of('0 7')}-{key_of('0 0')}"}


def test_pairs_of_unequal_sizes_are_refused_or_cut_around_the_centre(tmp_path):
    smaller = noise(9, 20, 16)
    run = write_finished(tmp_path, [row(0), row(1, edited=smaller)])
    facts = exported(run, tmp_path / "x", "folders")
    assert (facts["examples"], facts["left_out"]) == (1, {"size": 1})
    assert exported(run, tmp_path / "y", "folders", fit="crop")["examples"] == 2
    name = f"{key_of('1 0')}.png"
    train = tmp_path / "y/train"
    pictures = {
        p: np.asarray(Image.open(train / p / name)) for p in ("sources", "targets", "masks")
    }
    assert np.array_equal(pictures["targets"], smaller)
    assert np.array_equal(pictures["sources"], noise(1)[:, 2:22])
    assert pictures["masks"].shape == (16, 20)
    assert main(["verify", str(tmp_path / "y")]) == 0


def test_transparent_pixels_lie_over_a_stated_colour(tmp_path):
    pixels = np.dstack([noise(0), np.zeros((16, 24), np.uint8)])
    run = write_finished(tmp_path, [row(0, source=pixels, edited=np.asarray(pixels))])
    exported(run, tmp_path / "x", "folders", background="#102030")
    (source,) = (tmp_path / "x/train/sources").iterdir()
    image = Image.open(source)
    assert image.mode == "RGB"
    assert image.getpixel((3, 3)) == (16, 32, 48)


def test_reversed_pairs_lead_back_by_the_inverse_instruction(tmp_path):
    rows = [row(0, inverse_instruction="darken  it\nagain"), row(1)]
    run = write_finished(tmp_path, rows)
    facts = exported(run, tmp_path / "x", "folders", reverse=True)
    assert facts["left_out"] == {"no_inverse": 1}
    train, key = tmp_path / "x/train", key_of("0 0")
    assert (train / f"targets/{key}.txt").read_text() == "darken it again\n"
    assert np.array_equal(np.asarray(Image.open(train / f"targets/{key}.png")), noise(0))
    assert np.asarray(Image.open(train / f"sources/{key}.png")).min() == 60
    (told,) = pq.read_table(tmp_path / "x/rows.parquet").to_pylist()
    assert (told["original_prompt"], told["edited_prompt"]) == ("bright picture 0", "picture 0")
    assert main(["verify", str(tmp_path / "x")]) == 0


def test_rows_without_words_or_source_are_counted(tmp_path):
    rows = [row(0), row(1, instruction="  "), row(2), row(3)]
    run = write_finished(tmp_path, rows)
    sources = sorted((tmp_path / "input").iterdir())
    sources[0].unlink()
    sources[1].write_bytes(b"no picture")
    facts = exported(run, tmp_path / "x", "ip2p")
    left_out = facts["left_out"]
    assert sum(left_out.values()) == 4 - facts["examples"]
    assert set(left_out) <= {"no_caption", "source_missing", "image_unreadable"}
    assert left_out["source_missing"] == left_out["image_unreadable"] == 1


def test_words_can_be_of_another_column(tmp_path):
    run = write_finished(tmp_path, [row(0)])
    exported(run, tmp_path / "x", "folders", caption="target_prompt")
    (text,) = (tmp_path / "x/train/targets").glob("*.txt")
    assert text.read_text() == "bright picture 0\n"
    with pytest.raises(UsageError, match="did you mean 'target_prompt'"):
        exported(run, tmp_path / "y", "folders", caption="targetprompt")


def test_parts_of_a_manifest_change_nothing(tmp_path):
    rows = [row(n, c) for n in range(5) for c in range(2)]
    one = write_finished(tmp_path / "one", rows)
    two = write_finished(tmp_path / "two", rows, part_rows=3)
    exported(one, tmp_path / "x", "ip2p", best=True)
    exported(two, tmp_path / "y", "ip2p", best=True)
    assert files(tmp_path / "x") == files(tmp_path / "y")


def test_lost_edit_stops_the_export_with_advice(tmp_path):
    run = write_finished(tmp_path, [row(0)])
    (edited,) = (tmp_path / "run/images").iterdir()
    edited.unlink()
    with pytest.raises(UsageError, match="is gone; `overpaint verify"):
        exported(run, tmp_path / "x", "ip2p")
