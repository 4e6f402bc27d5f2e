"""Drawing for the trainer: token ids by dictionary, kinds of examples, forked workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.caption import caption_tokens
from overpaint.jobs.training.clip import CaptionTokens
from overpaint.jobs.training.clipseg import phrase_tokens
from overpaint.jobs.training.examples import edit_example, mask_example, scene_example
from overpaint.jobs.training.instruction import phrasing_tokens
from overpaint.jobs.training.judge import tokenize_answers, user_turn
from overpaint.jobs.training.pairs import PAIRS_AN_EDIT, pair_example
from overpaint.jobs.training.parallel import drawing, fills
from overpaint.jobs.training.parallel.drawing import CHUNK, ORDER, create_arrays, ordered_chunks
from overpaint.jobs.training.parallel.kinds import KINDS
from overpaint.jobs.training.vocabulary import token_table
from overpaint.jobs.training.word_ids import MAX_JUDGE_TOKENS, shipped_word_ids
from overpaint.operators import models
from overpaint.pipeline.edit_types import EDIT_TYPES
from transformers import BertTokenizer, CLIPTokenizer, LlavaProcessor

SHIPPED = Path(models.__file__).parent / "papercut"
COMMAND = (sys.executable, "-P", "-m", "overpaint.jobs.training.parallel.drawing")
SMALL = {"scene": 520, "view": 40, "mask": 300, "edit": 30, "pair": 30, "fill": 30}


def cache(draw, number, start=0):
    texts = [dict(draw(start + i, split="train").texts) for i in range(number)]
    return Cache(arrays={}, texts=texts)


@pytest.fixture(scope="module")
def scenes():
    return cache(scene_example, 500)


def test_clip_ids_are_those_of_the_tokenizer(scenes):
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "clip")
    texts = [text for entry in scenes.texts for text in entry["captions"]]
    texts += [text for entry in cache(mask_example, 300).texts for text in entry["phrases"]]
    texts += [text for entry in cache(edit_example, 48).texts for text in entry["phrasings"]]
    texts += ["", "the figure", "star , " * 40]
    assert len(texts) > 3000
    ids = np.stack([shipped_word_ids().clip(text) for text in texts])
    wrong = (ids != token_table(tokenizer, texts).numpy()).any(axis=1)
    assert not wrong.any(), texts[int(wrong.argmax())]


def test_caption_ids_are_those_of_the_tokenizer(scenes):
    tokenizer = BertTokenizer.from_pretrained(SHIPPED / "caption")
    texts = [entry["ordered"] for entry in scenes.texts] + ["a figure", "star , " * 40]
    true = token_table(tokenizer, texts).numpy()
    true[:, 0] = tokenizer.bos_token_id
    assert np.array_equal(np.stack([shipped_word_ids().caption(text) for text in texts]), true)


def test_judge_ids_are_those_of_the_tokenizer():
    processor = LlavaProcessor.from_pretrained(SHIPPED / "judge")
    for entry in cache(pair_example, 240).texts:
        prompt = user_turn(processor, entry["instruction"]).replace("<image>", "<image>" * 64)
        texts = [prompt, f" {entry['answer']}</s>"]
        before, after = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
        ids = shipped_word_ids().judge(entry["instruction"], entry["answer"])
        assert ids.tokens[: ids.length].tolist() == before + after
        assert (ids.tokens[ids.length :] == processor.tokenizer.pad_token_id).all()
        assert (ids.answer_start, ids.length) == (len(before), len(before + after))


def test_tables_of_caches_have_the_ids_of_their_own_tokenizer(scenes):
    clip = CLIPTokenizer.from_pretrained(SHIPPED / "clip")
    captions = CaptionTokens.from_cache(scenes, clip)
    assert len(captions.tokens_nt) == captions.first[-1]
    for i, entry in enumerate(scenes.texts[:20]):
        rows = captions.tokens_nt[captions.first[i] : captions.first[i + 1]]
        assert np.array_equal(rows, token_table(clip, entry["captions"]))
    masks, edits = cache(mask_example, 20), cache(edit_example, 20)
    tables = (("phrases", phrase_tokens(masks, clip, num_phrases=5), masks),)
    tables += (("phrasings", phrasing_tokens(edits, clip, num_phrasings=5), edits),)
    for name, table_npt, drawn in tables:
        for rows, entry in zip(table_npt, drawn.texts, strict=True):
            texts = [entry[name][i % len(entry[name])] for i in range(5)]
            assert np.array_equal(rows, token_table(clip, texts))
    bert = BertTokenizer.from_pretrained(SHIPPED / "caption")
    rows = [shipped_word_ids().caption(entry["ordered"]) for entry in scenes.texts]
    assert np.array_equal(caption_tokens(scenes, bert), rows)


def test_table_of_answers_masks_what_the_judge_is_to_say():
    pairs, processor = cache(pair_example, 20), LlavaProcessor.from_pretrained(SHIPPED / "judge")
    texts_nt, is_answer_nt = tokenize_answers(pairs, processor)
    for entry, tokens, is_answer in zip(pairs.texts, texts_nt, is_answer_nt, strict=True):
        said = processor.tokenizer.decode(tokens[is_answer])
        assert said == entry["answer"].replace(",", " ,") + " </s>"


def test_texts_that_are_too_long_or_not_drawn_are_refused():
    with pytest.raises(ValueError, match=f"more than {MAX_JUDGE_TOKENS}"):
        shipped_word_ids().judge("add a star", "star " * 120)
    with pytest.raises(ValueError, match="no word of a drawn text"):
        shipped_word_ids().clip("a star!")
    with pytest.raises(ValueError, match="at least one text"):
        shipped_word_ids().clip_table([], 4)


@pytest.mark.parametrize("name", KINDS)
def test_examples_are_as_declared_and_depend_on_the_index_alone(name):
    kind = KINDS[name]
    examples = [kind.draw(index) for index in range(24)]
    for index in (23, 5, 12):
        again = kind.draw(index)
        assert all(np.array_equal(again[field], examples[index][field]) for field in kind.fields)
    for example in examples:
        declared = {
            field: (shape, np.dtype(dtype)) for field, (shape, dtype) in kind.fields.items()
        }
        assert declared == {field: (array.shape, array.dtype) for field, array in example.items()}


def test_examples_are_those_that_the_caches_hold():
    for index in range(12):
        scene, edit = KINDS["scene"].draw(index), KINDS["edit"].draw(index)
        mask, pair = KINDS["mask"].draw(index), KINDS["pair"].draw(index)
        cached = scene_example(index, split="train")
        assert np.array_equal(scene["image"], cached.arrays["image"])
        captions = cached.texts["captions"]
        assert scene["num_captions"] == len(captions)
        last = shipped_word_ids().clip(captions[5 % len(captions)])
        assert np.array_equal(scene["captions"][5], last)
        assert (
            EDIT_TYPES[edit["edit_type"]] == edit_example(index, split="train").texts["edit_type"]
        )
        assert np.array_equal(mask["mask"] * 255, mask_example(index, split="train").arrays["mask"])
        assert np.array_equal(pair["edited"], pair_example(index, split="train").arrays["edited"])


def test_consecutive_pairs_share_an_edit():
    sources = [KINDS["pair"].draw(index)["source"] for index in range(2 * PAIRS_AN_EDIT)]
    for index, source in enumerate(sources):
        assert np.array_equal(source, sources[index // PAIRS_AN_EDIT * PAIRS_AN_EDIT])
    assert not np.array_equal(sources[0], sources[-1])


@pytest.fixture(scope="module")
def filled():
    return [KINDS["fill"].draw(index) for index in range(1200)]


def test_fills_have_each_label_with_its_share(filled):
    counts = Counter(int(fill["task"]) for fill in filled)
    assert set(counts) == set(fills.FILL_SHARES) == set(range(1, 10))
    assert sum(fills.FILL_SHARES.values()) == pytest.approx(1.0)
    for label, share in fills.FILL_SHARES.items():
        assert counts[label] / len(filled) == pytest.approx(share, abs=0.03), label


def test_fills_change_nothing_outside_their_mask_but_for_proposals(filled):
    for fill in filled:
        assert set(np.unique(fill["mask"])) <= {0, 1}
        assert fill["mask"].any()
        assert fill["is_masked"] == (fill["task"] not in (fills.MASK_PROPOSAL, fills.ERASED))
        if fill["task"] == fills.MASK_PROPOSAL:
            continue
        outside = fill["mask"] == 0
        assert np.array_equal(fill["target"][outside], fill["shown"][outside]), fill["task"]


def test_fills_show_what_their_task_says(filled):
    empty = shipped_word_ids().clip("")
    for fill in filled:
        is_empty = np.array_equal(fill["texts"], np.stack([empty] * fills.NUM_FILL_TEXTS))
        assert is_empty == (fill["task"] == fills.CONTEXT)
        if fill["task"] == fills.MASK_PROPOSAL:
            assert set(np.unique(fill["target"])) == {0, 255}
            assert fill["mask"][fill["target"][..., 0] > 0].all()
        if fill["task"] == fills.ERASED:
            assert not np.array_equal(fill["target"], fill["shown"])
    scenes = [fill for fill in filled if fill["task"] == fills.SCENE]
    edited = [not np.array_equal(fill["target"], fill["shown"]) for fill in scenes]
    assert np.mean(edited) == pytest.approx(0.5, abs=0.1)


def test_view_pictures_are_masks_maps_sketches_crops_and_masked_scenes_in_turn():
    views = [KINDS["view"].draw(index)["image"] for index in range(30)]
    assert all(set(np.unique(view)) == {0, 255} for view in views[::5])
    assert all(np.ptp(view.astype(int), axis=2).max() == 0 for view in views[2::5])
    assert all((view[0, 0] > 240).all() for view in views[3::5])
    assert all(((view == 128).all(axis=2)).sum() > 30 for view in views[4::5])


def test_two_workers_fill_every_array_with_what_the_kinds_draw(tmp_path):
    arguments = [str(tmp_path), "--sizes", json.dumps(SMALL), "--workers", "2"]
    subprocess.run([*COMMAND, *arguments], check=True, timeout=120)
    assert json.loads((tmp_path / "drawing.json").read_text()) == {"sizes": SMALL}
    for name, size in SMALL.items():
        arrays = {field: np.load(tmp_path / f"{name}.{field}.npy") for field in KINDS[name].fields}
        done = np.load(tmp_path / f"{name}.done.npy")
        assert done.dtype == np.uint8
        assert done.tolist() == [1] * -(-size // CHUNK)
        for index in (0, size // 2, size - 1):
            example = KINDS[name].draw(index)
            assert all(np.array_equal(arrays[field][index], example[field]) for field in example)
            assert all(len(array) == size for array in arrays.values())


def test_killed_worker_loses_nothing(tmp_path):
    sizes = {"scene": 6 * CHUNK}
    arguments = [str(tmp_path), "--sizes", json.dumps(sizes), "--workers", "1"]
    process = subprocess.Popen([*COMMAND, *arguments])
    try:
        worker = _first_child(process.pid)
        while not (tmp_path / "drawing.json").exists() or not _done(tmp_path, "scene").any():
            time.sleep(0.005)
        os.kill(worker, signal.SIGKILL)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    assert _done(tmp_path, "scene").all()
    images = np.load(tmp_path / "scene.image.npy", mmap_mode="r")
    for index in range(0, len(images), 97):
        assert np.array_equal(images[index], KINDS["scene"].draw(index)["image"])


def test_worker_ends_with_its_parent(tmp_path):
    arguments = [str(tmp_path), "--sizes", json.dumps({"scene": 400 * CHUNK}), "--workers", "1"]
    process = subprocess.Popen([*COMMAND, *arguments])
    worker = psutil.Process(_first_child(process.pid))
    process.kill()
    process.wait()
    assert worker.wait(timeout=20) is None or not worker.is_running()


def _first_child(pid):
    for _ in range(2000):
        if children := psutil.Process(pid).children():
            return children[0].pid
        time.sleep(0.005)
    raise AssertionError("no worker was started")


def _done(folder, kind):
    return np.load(folder / f"{kind}.done.npy", mmap_mode="r")


def test_chunks_that_cannot_be_drawn_are_named(tmp_path):
    create_arrays(tmp_path, {"scene": 10})
    (tmp_path / "scene.image.npy").unlink()
    with pytest.raises(RuntimeError, match=r"1 of 1 chunks could not be drawn, first scene 0"):
        drawing.draw_all(tmp_path, {"scene": 10}, 1)


def test_full_disk_is_said_before_anything_is_drawn(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        OSError, match=r"1,000,000 bytes free, and the drawn arrays need 12,7"
    ) as caught:
        create_arrays(tmp_path, {"scene": 1000})
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_file_system_of_unknown_size_is_no_full_one(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(total=0, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    create_arrays(tmp_path, {"scene": 10})
    assert np.load(tmp_path / "scene.image.npy").shape == (10, 64, 64, 3)


@pytest.mark.parametrize(
    ("sizes", "workers", "order", "message"),
    [
        ('{"scenes": 3}', 1, "{}", "sizes names 'scenes'"),
        ('{"scene": 0}', 1, "{}", "at least 1"),
        ('{"scene": 3}', 0, "{}", "workers is 0"),
        ('{"scene": 3}', 1, '{"scene": [0.5, 0.2]}', "rise within 0 to 1"),
        ('{"scene": 3}', 1, '{"dog": [0.5, 0.2]}', "order names 'dog'"),
        ("scene", 1, "{}", "JSON"),
        ("[1]", 1, "{}", "JSON"),
        ('{"scene": "3"}', 1, "{}", "JSON"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path, sizes, workers, order, message):
    arguments = [str(tmp_path), "--sizes", sizes, "--workers", str(workers), "--order", order]
    with pytest.raises(SystemExit, match=message):
        drawing.main(arguments)
    assert not list(tmp_path.iterdir())


def test_chunks_are_drawn_in_the_order_of_their_kinds():
    sizes = dict.fromkeys(KINDS, 100 * CHUNK)
    chunks = ordered_chunks(sizes, ORDER)
    assert sorted(chunks) == sorted(set(chunks))
    assert len(chunks) == 600
    assert {chunk.kind for chunk in chunks[:40]} == {"scene", "view"}
    assert {chunk.kind for chunk in chunks[-40:]} == {"fill", "mask"}
    for kind in KINDS:
        numbers = [chunk.number for chunk in chunks if chunk.kind == kind]
        assert numbers == list(range(100))


def test_drawing_imports_neither_torch_nor_tokenizers():
    code = (
        "import sys, overpaint.jobs.training.parallel.drawing as d; d.KINDS['pair'].draw(0); "
        "print({'torch', 'transformers', 'diffusers', 'tokenizers'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert shown.stdout.decode().strip() == "set()"
