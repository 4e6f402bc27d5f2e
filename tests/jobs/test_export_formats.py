"""Each format is loaded as its consumer does, is whole by its own rule, and repeats its bytes."""

import io
import json
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import export_runs
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from export_runs import exported, files, lines, noise, row, write_finished
from overpaint.jobs.cli import main
from overpaint.jobs.export.formats import FORMATS, layouts
from overpaint.jobs.export.pictures import DIGITAL_SOURCE_TYPE
from PIL import Image

NAMES = [f"{name} {like}".strip() for name, likes in layouts().items() for like in likes]
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
DUBLIN = "{http://purl.org/dc/elements/1.1/}"
OPTIONS = {"rl edit-r1": {"split": "train=0.5,test=0.5"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eight sources with three candidates each; the last candidate is the best and the mask's."""
    rows = [row(number, candidate) for number in range(8) for candidate in range(3)]
    mask = np.zeros((16, 24), np.uint8)
    mask[4:12, 6:18] = 255
    rows[2] |= {"mask": mask, "editable": np.maximum(mask, 128)}
    return write_finished(tmp_path_factory.mktemp("run"), rows)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_every_format_is_listed_by_name():
    assert set(layouts()) == {
        *("ip2p", "kontext", "diffsynth", "folders", "musubi", "webdataset"),
        *("preference", "rl"),
    }
    assert layouts()["preference"] == ["dpo", "editreward", "longcat", "verl"]
    assert layouts()["rl"] == ["edit-r1", "flow-factory", "unirl", "verl"]
    assert all(FORMATS.find(name).__doc__ for name in FORMATS.names())


@pytest.mark.parametrize("name", NAMES)
def test_format_is_whole_by_its_rule_and_repeats_its_bytes(run, tmp_path, name, capsys):
    facts = exported(run, tmp_path / "one", name, **OPTIONS.get(name, {}))
    assert facts["examples"] == {"pairs": 24, "preferences": 16, "prompts": 8}[facts["kind"]]
    assert main(["verify", str(tmp_path / "one")]) == 0, capsys.readouterr().out
    exported(run, tmp_path / "two", name, **OPTIONS.get(name, {}))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert "_unfinished.json" not in files(tmp_path / "one")


def load(folder, **options):
    datasets = pytest.importorskip("datasets")
    cache = str(folder.parent / "cache")
    return datasets.load_dataset(str(folder), cache_dir=cache, **options)


def test_ip2p_is_loaded_by_datasets(run, tmp_path):
    exported(run, tmp_path / "x", "ip2p", split="train=0.5,test=0.5")
    loaded = load(tmp_path / "x")
    assert sum(len(loaded[split]) for split in ("train", "test")) == 24
    train = loaded["train"]
    assert train.column_names[:3] == ["input_image", "edit_prompt", "edited_image"]
    for one in train:
        number = one["seed"]
        assert np.array_equal(np.asarray(one["input_image"]), noise(number))
        assert one["input_image"].size == one["edited_image"].size == one["mask_image"].size
        assert one["edit_prompt"] == f"brighten picture {number}"
        assert one["lmm_score"] in (5.0, 6.0, 7.0)
        assert one["in_license"] == "CC0"
    assert {type(one["edited_image"]).__name__ for one in train} == {"PngImageFile"}


def test_kontext_has_the_target_first(run, tmp_path):
    exported(run, tmp_path / "x", "kontext")
    train = load(tmp_path / "x", split="train")
    assert train.column_names[:3] == ["image", "cond_image", "caption"]
    one = train[2]
    assert np.array_equal(np.asarray(one["cond_image"]), noise(0))
    assert np.asarray(one["image"]).min() == 100


def test_masks_are_what_was_editable_and_white_without_one(run, tmp_path):
    exported(run, tmp_path / "x", "folders")
    masks = {name: pixels(data)[..., 0] for name, data in files(tmp_path / "x/train/masks").items()}
    assert sum(mask.min() == 255 for mask in masks.values()) == 23
    (editable,) = (mask for mask in masks.values() if mask.min() < 255)
    assert editable[0, 0] == 128
    assert editable[8, 12] == 255


def test_edited_images_say_so_and_sources_do_not(run, tmp_path):
    for image_format in ("png", "jpg", "webp"):
        exported(run, tmp_path / image_format, "folders", image_format=image_format)
        train = tmp_path / image_format / "train"
        names = sorted(path.name for path in (train / "sources").iterdir())
        assert names == sorted(p.name for p in (train / "targets").glob(f"*.{image_format}"))
        for name in names[:3]:
            packet = Image.open(train / "targets" / name).info["xmp"]
            (found,) = ElementTree.fromstring(packet.decode().strip("\ufeff")).iter(DESCRIPTION)
            assert found.attrib[f"{IPTC}DigitalSourceType"] == DIGITAL_SOURCE_TYPE
            assert found.attrib[f"{DUBLIN}identifier"] == f"overpaint:{Path(name).stem}"
            assert "xmp" not in Image.open(train / "sources" / name).info


def test_folders_come_with_settings_that_name_them(run, tmp_path):
    exported(run, tmp_path / "x", "folders")
    configs = tmp_path / "x" / "configs"
    toolkit = yaml.safe_load((configs / "ai-toolkit.yaml").read_text())["datasets"][0]
    pipe = tomllib.loads((configs / "diffusion-pipe.toml").read_text())["directory"][0]
    musubi = tomllib.loads((configs / "musubi.toml").read_text())["datasets"][0]
    targets, sources, _ = json.loads((configs / "simpletuner.json").read_text())
    assert targets["conditioning_data"] == sources["id"]
    assert sources["conditioning_type"] == "reference_strict"
    named = [
        *(toolkit["folder_path"], toolkit["control_path"], pipe["path"], pipe["control_path"]),
        *(musubi["image_directory"], musubi["control_directory"]),
        *(targets["instance_data_dir"], sources["instance_data_dir"]),
    ]
    assert named == ["train/targets", "train/sources"] * 4
    assert all((tmp_path / "x" / folder).is_dir() for folder in named)
    captions = list((tmp_path / "x/train/targets").glob("*.txt"))
    assert len(captions) == 24
    assert captions[0].read_text().startswith("brighten picture ")


def test_onetrainer_finds_labels_by_their_endings(run, tmp_path):
    exported(run, tmp_path / "x", "folders onetrainer", best=True)
    names = {path.name for path in (tmp_path / "x/train").iterdir()}
    stems = {name.removesuffix(".txt") for name in names if name.endswith(".txt")}
    assert len(stems) == 8
    endings = (".png", ".txt", "-condlabel.png", "-masklabel.png")
    assert names == {f"{stem}{ending}" for stem in stems for ending in endings}


def test_references_are_lists_where_a_trainer_takes_them_and_refused_elsewhere(tmp_path):
    shown = [noise(50, 8, 8), noise(51, 30, 10)]
    run = write_finished(tmp_path, [row(0), row(1, references=shown)])
    assert exported(run, tmp_path / "ip2p", "ip2p")["left_out"] == {"references": 1}
    exported(run, tmp_path / "d", "diffsynth")
    one, several = json.loads((tmp_path / "d/train/metadata.json").read_text())
    assert isinstance(one["edit_image"], str)
    assert len(several["edit_image"]) == 3
    second = Image.open(tmp_path / "d/train" / several["edit_image"][2])
    assert np.array_equal(np.asarray(second), shown[1])
    exported(run, tmp_path / "m", "musubi")
    one, several = lines(tmp_path / "m/train.jsonl")
    assert set(one) == {"image_path", "control_path", "caption"}
    assert [key for key in several if key.startswith("control")] == [
        *("control_path_0", "control_path_1", "control_path_2")
    ]
    assert main(["verify", str(tmp_path / "m")]) == 0
    assert main(["verify", str(tmp_path / "d")]) == 0


def test_webdataset_is_loaded_by_webdataset_and_datasets(run, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    exported(run, tmp_path / "x", "webdataset", best=True)
    shard = str(tmp_path / "x/train-00000.tar")
    samples = list(webdataset.WebDataset(shard, shardshuffle=False).decode("pil"))
    assert len(samples) == 8
    for one in samples:
        assert set(one) >= {"input_image.png", "edited_image.png", "mask_image.png", "json"}
        assert one["input_image.png"].size == one["mask_image.png"].size
        assert one["json"]["edit_prompt"].startswith("brighten")
    train = load(tmp_path / "x", split="train")
    assert len(train) == 8
    assert train[0]["edited_image.png"].size == (24, 16)


def test_preferences_are_the_best_against_each_worse_candidate(run, tmp_path):
    exported(run, tmp_path / "dpo", "preference dpo")
    train = load(tmp_path / "dpo", split="train")
    assert set(train["label_0"]) == {1.0}
    assert set(train["label_1"]) == {0.0}
    assert {int(pixels(one).min()) for one in train["jpg_0"]} == {100}
    assert {int(pixels(one).min()) for one in train["jpg_1"]} == {60, 80}
    facts = exported(run, tmp_path / "best", "preference longcat", best=True, min_margin=1.5)
    assert facts["examples"] == 8
    for line in lines(tmp_path / "best/train.jsonl"):
        assert (line["width"], line["height"]) == (24, 16)
        worst = pixels((tmp_path / "best" / line["img_path_lose"]).read_bytes())
        assert worst.min() == 60
    exported(run, tmp_path / "judge", "preference editreward")
    for one in json.loads((tmp_path / "judge/train.json").read_text()):
        assert one["model1_overall_score"] > one["model2_overall_score"]
        assert one["model1_dim1_score"] == 7.0
    exported(run, tmp_path / "verl", "preference verl")
    table = pq.read_table(tmp_path / "verl/train-00000.parquet").to_pylist()
    assert all(one["win_score"] > one["lose_score"] for one in table)
    assert table[0]["prompt"][-1]["content"] == "Picture 1: <image>brighten picture 0"


def test_prompts_are_requests_with_what_a_right_result_shows(run, tmp_path):
    exported(run, tmp_path / "r1", "rl edit-r1", split="train=0.5,test=0.5")
    told = [
        line
        for split in ("train", "test")
        for line in lines(tmp_path / f"r1/{split}_metadata.jsonl")
    ]
    assert sorted(line["requirement"] for line in told) == [f"bright picture {n}" for n in range(8)]
    assert all((tmp_path / "r1" / line["image"]).is_file() for line in told)
    exported(run, tmp_path / "ff", "rl flow-factory")
    assert all(
        (tmp_path / "ff/images" / name).is_file()
        for line in lines(tmp_path / "ff/train.jsonl")
        for name in line["images"]
    )
    exported(run, tmp_path / "uni", "rl unirl")
    (media,) = lines(tmp_path / "uni/train.jsonl")[0]["media"]
    assert set(media) == {"modality", "role", "uri"}
    exported(run, tmp_path / "verl", "rl verl")
    first = pq.read_table(tmp_path / "verl/train-00000.parquet").to_pylist()[0]
    assert pixels(first["images"][0]["bytes"]).shape == (512, 512, 3)
    assert first["reward_model"]["ground_truth"] == "bright picture 0"


def test_card_says_where_the_pairs_come_from(run, tmp_path):
    exported(run, tmp_path / "x", "ip2p", best=True, split="train=0.5,test=0.5")
    card = (tmp_path / "x/README.md").read_text()
    for words in (
        "recolor: 8 pairs",
        "| color | 12 | 12 | 4 | 33% |",
        "the best by rank, ranked by `lmm_score`",
        "| `not_best` | 16 |",
        "white (255) may change",
        "outputs may train models",
        "checkpoint sha256:cccc",
        "| `in_license` | CC0 | 8 |",
        "Share of edited rows, accepted or not, whose `lmm_score` is at least",
    ):
        assert words in card, card
    rows = pq.read_table(tmp_path / "x/rows.parquet").to_pylist()
    assert {one["name"] for one in rows} == {one["key"] for one in rows}
    assert {one["lmm_score"] for one in rows} == {7.0}
    assert {one["phash_source"] for one in rows} == {2**62 + 1}


def test_card_names_the_editors_that_rows_chose_among(tmp_path, monkeypatch):
    choices = {"fast": {"method": "sdedit"}, "slow": {"method": "dds", "terms": "no training"}}
    monkeypatch.setitem(export_runs.MODEL, "choices", choices)
    run = write_finished(tmp_path, [row(0)])
    exported(run, tmp_path / "x", "folders")
    card = (tmp_path / "x/README.md").read_text()
    assert "| recolor | edit | sdedit | papercut |  | outputs may train models |" in card
    assert "- `recolor`: terms non-commercial: not for commercial use" in card
    assert "| recolor | edit | dds | papercut |  | no training |" in card
    assert "Exported: every accepted row." in card


def test_format_of_a_users_own_is_named_by_its_class(run, tmp_path, monkeypatch):
    (tmp_path / "own_format.py").write_text(
        "from overpaint.jobs.export.formats.ip2p import Ip2p\n\n\n"
        "class Mine(Ip2p):\n"
        '    """Columns with other names."""\n\n'
        '    own = ("before", "edit_prompt", "after")\n'
        '    source = "before"\n'
        '    target = "after"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    exported(run, tmp_path / "x", "own_format:Mine")
    assert load(tmp_path / "x", split="train").column_names[0] == "before"
    assert main(["verify", str(tmp_path / "x")]) == 0
