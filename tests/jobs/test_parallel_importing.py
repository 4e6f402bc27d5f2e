"""Raw weights become checkpoints, and are taken where they are no worse than those of today."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from overpaint.jobs.cli import main
from overpaint.jobs.training.edit_success import edit_test_scenes, inpainting_editor
from overpaint.jobs.training.evaluate import main_figure
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.parallel.deciding import Rows, rejections
from overpaint.jobs.training.parallel.importing import (
    ImportRequest,
    ImportResult,
    import_checkpoints,
)
from PIL import Image
from raw_weights import LATENT, NUM_LABELS, SHIPPED, change, content, write_facts
from safetensors.torch import load_file
from transformers import SamModel


def worsen(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def add_noise(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.numel() > 1:
                tensors[name] = (tensor.float() + 0.3 * tensor.float().std() * noise).half()

    change(path, add_noise)


def run(folder: Path, checkpoints: Path, num_scenes: int = 2, **options: Any) -> ImportResult:
    request = ImportRequest(
        folder=folder,
        checkpoints=checkpoints,
        shipped=SHIPPED,
        num_scenes=num_scenes,
        num_processes=1,
        **options,
    )
    return import_checkpoints(request)


def results(result: ImportResult) -> dict[str, str]:
    return {row["checkpoint"]: row["result"] for row in result.rows if row["result"]}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_equal_weights_are_taken_with_history_and_card(
    raw: Callable[..., Path], checkpoints: Path
) -> None:
    before = SamModel.from_pretrained(checkpoints / "sam").state_dict()
    history = read_history(checkpoints / "sam")
    result = run(raw("sam"), checkpoints)
    assert result.taken == ["sam"]
    assert results(result) == {"sam": "taken"}
    after = SamModel.from_pretrained(checkpoints / "sam").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    *old, new = read_history(checkpoints / "sam")
    assert old == history
    assert (new.steps, new.device, new.note) == (5, "NVIDIA H100", "grown")
    card = (checkpoints / "sam" / "README.md").read_text()
    assert f"- {new}\n" in card
    assert "| 2 |" in card
    assert names(checkpoints / "sam") == names(SHIPPED / "sam")
    modes = {path.stat().st_mode for path in (checkpoints / "sam").iterdir()}
    assert len(modes) == 1, "other users can read the weights, too"
    assert names(checkpoints) == names(SHIPPED)


def test_worse_weights_are_not_taken_unless_forced(
    raw: Callable[..., Path], checkpoints: Path
) -> None:
    folder, before = raw("sam"), content(checkpoints)
    worsen(folder / "sam.safetensors")
    result = run(folder, checkpoints)
    assert results(result) == {"sam": "not taken: iou_box_mean is lower"}
    assert result.taken == []
    assert "nothing is replaced" in result.sentences
    assert content(checkpoints) == before
    assert run(folder, checkpoints, force=["sam"]).taken == ["sam"]
    assert content(checkpoints) != before


def test_tied_weights_come_once(raw: Callable[..., Path], checkpoints: Path) -> None:
    before = content(checkpoints / "judge")["model.safetensors"]
    run(raw("judge"), checkpoints, force=["judge"])
    assert content(checkpoints / "judge")["model.safetensors"] == before


def test_archives_are_read_too(raw: Callable[..., Path], checkpoints: Path, tmp_path: Path) -> None:
    folder, packed = raw("sam"), tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "weights.tar", "w") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    shutil.copyfile(packed / "weights.tar", packed / "again.tar")
    assert run(packed, checkpoints).taken == ["sam"]


def test_folder_without_checkpoints_gets_those_that_come_along(
    raw: Callable[..., Path], tmp_path: Path
) -> None:
    run(raw("sam"), tmp_path / "new")
    assert names(tmp_path / "new") == names(SHIPPED)
    assert read_history(tmp_path / "new" / "sam")[-1].note == "grown"


@pytest.mark.slow
def test_checkpoints_are_measured_side_by_side(raw: Callable[..., Path], checkpoints: Path) -> None:
    folder = raw("sam", "judge")
    assert main(["train", "--import", str(folder), "--out", str(checkpoints), "--scenes", "8"]) == 0
    assert [read_history(checkpoints / name)[-1].note for name in ("sam", "judge")] == ["grown"] * 2


@pytest.fixture(scope="module")
def imported(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportResult]:
    """A folder of checkpoints after an import of the vae and all that stands on it."""
    folder = tmp_path_factory.mktemp("imported")
    raw = folder / "raw"
    raw.mkdir()
    for name in LATENT:
        shutil.copyfile(grown / f"{name}.safetensors", raw / f"{name}.safetensors")
    write_facts(raw)
    checkpoints = folder / "papercut"
    shutil.copytree(SHIPPED, checkpoints, symlinks=True)
    return checkpoints, run(raw, checkpoints)


@pytest.mark.slow
def test_vae_and_what_stands_on_it_go_together_and_share_one_vae(
    imported: tuple[Path, ImportResult],
) -> None:
    checkpoints, result = imported
    assert result.taken == list(LATENT)
    assert set(results(result).values()) == {"taken"}
    for name in LATENT[1:]:
        link = checkpoints / name / "vae" / "diffusion_pytorch_model.safetensors"
        assert link.readlink() == Path("../../vae/diffusion_pytorch_model.safetensors")
        tokenizer = checkpoints / name / "tokenizer" / "tokenizer.json"
        assert tokenizer.readlink() == Path("../../clip/tokenizer.json")
    figures = {(row["checkpoint"], row["figure"]): row for row in result.rows}
    psnr_db = figures["vae", "psnr_db_mean"]
    assert psnr_db["shipped"] == pytest.approx(psnr_db["new"], abs=1e-3)
    assert ("inpainting", "success_remove") in figures
    assert ("text_to_image", "attributes_right_world") in figures


@pytest.mark.slow
def test_plain_diffusers_draws_with_the_imported_inpainting(
    imported: tuple[Path, ImportResult],
) -> None:
    folder = imported[0] / "inpainting"
    labels = load_file(folder / "unet" / "task_labels.safetensors")["weight"]
    assert labels.shape == (NUM_LABELS, 256)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder)
    assert pipeline.scheduler.config["prediction_type"] == "v_prediction"
    source, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64), 255)
    drawn = pipeline(
        "a blue star", image=source, mask_image=mask, height=64, width=64, num_inference_steps=2
    )
    assert drawn.images[0].size == (64, 64)


@pytest.mark.slow
def test_operator_draws_by_a_task_with_the_imported_inpainting(
    imported: tuple[Path, ImportResult],
) -> None:
    edit = inpainting_editor(imported[0] / "inpainting")
    told = edit.model_copy(update={"settings": edit.own.model_copy(update={"task": "shape"})})
    told.check()
    plain, shape = (edit_test_scenes(e, 1, edit_types=["replace"])[0] for e in (edit, told))
    assert (plain.edited != shape.edited).any()


@pytest.mark.slow
def test_vae_that_fell_keeps_all_that_stands_on_it(
    raw: Callable[..., Path], checkpoints: Path
) -> None:
    folder, before = raw(*LATENT, "sam"), content(checkpoints)
    worsen(folder / "vae.safetensors")
    result = run(folder, checkpoints, num_scenes=1)
    decided = results(result)
    assert decided["vae"] == "not taken: psnr_db_mean is lower"
    assert decided["sam"] == "taken"
    assert result.taken == ["sam"]
    after = content(checkpoints)
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {"sam"}


def test_new_vae_alone_is_held_back(raw: Callable[..., Path], checkpoints: Path) -> None:
    folder, before = raw("vae"), content(checkpoints)
    change(folder / "vae.safetensors", lambda w: w["vae.encoder.conv_in.weight"].mul_(1.1))
    needed = "text_to_image and a new instruction and a new inpainting"
    reason = f"not taken: the new vae needs a new {needed} too"
    assert results(run(folder, checkpoints)) == {"vae": reason}
    assert content(checkpoints) == before


def test_what_stands_on_a_vae_that_is_left_out_is_held_back(
    raw: Callable[..., Path], checkpoints: Path
) -> None:
    folder = raw("vae", "text_to_image", "instruction")
    result = run(folder, checkpoints, only=["text_to_image", "instruction"])
    reason = "not taken: it stands on the new vae, which is not imported"
    assert results(result) == {"text_to_image": reason, "instruction": reason}


def measured(**values: float) -> Rows:
    return [
        {"checkpoint": name, "figure": main_figure(name), "value": value}
        for name, value in values.items()
    ]


TODAY = measured(vae=31.0, text_to_image=0.78, instruction=0.74, judge=0.83)
BETTER = {"vae": 34.0, "text_to_image": 0.9, "instruction": 0.8, "inpainting": 0.5, "judge": 0.9}


@pytest.mark.parametrize(
    ("changes", "force", "rejected"),
    [
        ({}, [], []),
        ({"judge": 0.83}, [], []),
        ({"judge": 0.8}, [], ["judge"]),
        ({"vae": 30.0}, [], LATENT),
        ({"instruction": 0.7}, [], LATENT),
        ({"instruction": 0.7}, ["instruction"], []),
        ({"instruction": 0.7, "vae": 30.0}, ["instruction"], LATENT),
        ({"instruction": 0.7, "judge": 0.8}, [], [*LATENT, "judge"]),
        ({"inpainting": float("nan")}, [], LATENT),
        ({"text_to_image": float("nan")}, [], LATENT),
    ],
)
def test_vae_and_what_stands_on_it_are_decided_together(
    changes: dict[str, float], force: list[str], rejected: list[str]
) -> None:
    after = measured(**BETTER | changes)
    assert sorted(rejections(list(BETTER), TODAY, after, force)) == sorted(rejected)


def test_one_that_fell_is_named_for_all_that_go_with_it() -> None:
    reasons = rejections(list(BETTER), TODAY, measured(**BETTER | {"instruction": 0.7}), [])
    assert reasons["instruction"] == "not taken: success is lower"
    assert reasons["vae"].startswith("not taken: instruction fell")


def test_latent_pipelines_without_a_new_vae_are_decided_each_by_itself() -> None:
    today = [*TODAY, *measured(inpainting=0.6)]
    names = ["text_to_image", "instruction", "inpainting"]
    assert list(rejections(names, today, measured(**BETTER), [])) == ["inpainting"]


def test_unknown_choice_is_refused(raw: Callable[..., Path], checkpoints: Path) -> None:
    with pytest.raises(ValueError, match="only has 'vae'"):
        run(raw("sam"), checkpoints, only=["vae"])
