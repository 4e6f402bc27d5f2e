"""Raw weights become checkpoints, and are taken where they are no worse than those of today."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline, UNet2DConditionModel
from overpaint.jobs.cli import main
from overpaint.jobs.training.edit_success import edit_test_scenes, inpainting_editor
from overpaint.jobs.training.evaluate import main_figure
from overpaint.jobs.training.grown import grow, inpainting_channels, with_input_channels
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.parallel.deciding import Rows, rejections
from overpaint.jobs.training.parallel.importing import (
    ImportRequest,
    ImportResult,
    import_checkpoints,
)
from overpaint.jobs.training.text_to_image import build_unet
from overpaint.jobs.training.vae import build_vae
from overpaint.operators.models.weights import Checkpoint
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText, CLIPTextModel, SamModel

SHIPPED = Path(Checkpoint(name="papercut").path).parent
SCALE = AutoencoderKL.from_pretrained(SHIPPED / "vae").config["scaling_factor"]
RUN = {"steps": 5, "minutes": 1.5, "batch_size": 8, "learning_rate": 1e-3, "examples": 64}
LATENT = ("vae", "text_to_image", "instruction", "inpainting")
NUM_LABELS = 16


def save_raw(path: Path, **modules: nn.Module) -> None:
    """Writes weights as the trainer does: fp16, tied ones once, without buffers."""
    named = nn.ModuleDict(modules).named_parameters()
    save_file({name: p.detach().half().contiguous() for name, p in named}, path)


def grown_unet(name: str, channels: int) -> UNet2DConditionModel:
    weights = UNet2DConditionModel.from_pretrained(SHIPPED / name / "unet").state_dict()
    if channels == 9:
        first = inpainting_channels(weights["conv_in.weight"], SCALE)
        weights = with_input_channels(weights, first)
    return grow(build_unet(in_channels=channels), weights)


def write_latent(folder: Path, name: str, base: str, channels: int) -> None:
    modules: dict[str, nn.Module] = {
        "unet": grown_unet(base, channels),
        "text_encoder": CLIPTextModel.from_pretrained(SHIPPED / base / "text_encoder"),
    }
    if channels > 4:
        modules["task_labels"] = nn.Embedding(NUM_LABELS, 256, padding_idx=0)
    save_raw(folder / f"{name}.safetensors", **modules)


def write_facts(folder: Path, **changes: Any) -> None:
    names = [path.stem for path in folder.glob("*.safetensors")]
    checkpoints = {name: {**RUN, "note": "grown"} for name in names}
    facts = {"scaling_factor": SCALE, "device": "NVIDIA H100", "checkpoints": checkpoints}
    (folder / "facts.json").write_text(json.dumps(facts | changes))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw weights of models that are grown from the shipped ones, and equal to them."""
    folder = tmp_path_factory.mktemp("raw")
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(SHIPPED / "vae")
    save_raw(folder / "vae.safetensors", vae=grow(build_vae(), vae.state_dict()))
    write_latent(folder, "text_to_image", "text_to_image", 4)
    write_latent(folder, "instruction", "instruction", 8)
    write_latent(folder, "inpainting", "instruction", 9)
    save_raw(folder / "sam.safetensors", sam=SamModel.from_pretrained(SHIPPED / "sam"))
    judge = AutoModelForImageTextToText.from_pretrained(SHIPPED / "judge")
    save_raw(folder / "judge.safetensors", judge=judge)
    return folder


@pytest.fixture
def raw(grown: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the raw weights of some checkpoints."""

    def copy(*names: str) -> Path:
        folder = tmp_path / "raw"
        folder.mkdir()
        for name in names:
            shutil.copyfile(grown / f"{name}.safetensors", folder / f"{name}.safetensors")
        write_facts(folder)
        return folder

    return copy


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "papercut", symlinks=True))


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def worsen(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def add_noise(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.numel() > 1:
                tensors[name] = (tensor.float() + 0.3 * tensor.float().std() * noise).half()

    change(path, add_noise)


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


TOKEN = "sam.mask_decoder.iou_token.weight"


def with_tensor(name: str, make: Callable[[Any], torch.Tensor | None]) -> Callable[[Path], None]:
    """Returns a function that replaces a tensor of a file, or takes it out."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        value = make(tensors.pop(name, None))
        if value is not None:
            tensors[name] = value

    return lambda path: change(path, edit)


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("sam", truncate, "sam.safetensors cannot be read"),
    "missing": ("sam", with_tensor(TOKEN, lambda _: None), f"sam.safetensors: {TOKEN} is missing"),
    "unknown": (
        "sam",
        with_tensor("sam.more", lambda _: torch.zeros(1)),
        "sam.safetensors: sam.more is no parameter of it",
    ),
    "shape": (
        "sam",
        with_tensor(TOKEN, lambda _: torch.zeros(2, 96)),
        f"sam.safetensors: {TOKEN} has the shape [2, 96]; it must be [1, 96]",
    ),
    "not finite": (
        "sam",
        with_tensor(TOKEN, lambda tensor: tensor * float("nan")),
        f"sam.safetensors: {TOKEN} is not finite",
    ),
    "too large for fp16": (
        "sam",
        with_tensor(TOKEN, lambda tensor: tensor.float() + 1e6),
        f"sam.safetensors: {TOKEN} is not finite in float16",
    ),
    "integers": (
        "sam",
        with_tensor(TOKEN, lambda tensor: tensor.int()),
        f"sam.safetensors: {TOKEN} is of torch.int32",
    ),
    "no labels": (
        "inpainting",
        with_tensor("task_labels.weight", lambda _: None),
        "inpainting.safetensors: task_labels.weight is missing",
    ),
    "label 0": (
        "inpainting",
        with_tensor("task_labels.weight", lambda tensor: tensor + 1),
        "inpainting.safetensors: task_labels.weight does not begin with zeros",
    ),
    "no facts": (
        "sam",
        lambda path: (path.parent / "facts.json").unlink(),
        "there is no facts.json",
    ),
    "no scaling factor": (
        "vae",
        lambda path: write_facts(path.parent, scaling_factor=None),
        "facts.json has no scaling_factor, which vae.safetensors needs",
    ),
    "wrong facts": (
        "sam",
        lambda path: write_facts(path.parent, scaling_factor="much"),
        "facts.json: scaling_factor",
    ),
    "facts of others": (
        "sam",
        lambda path: write_facts(path.parent, checkpoints={}),
        "facts.json says nothing of 'sam'",
    ),
    "unknown name": (
        "sam",
        lambda path: path.rename(path.with_name("sm.safetensors")),
        "sm.safetensors: no checkpoint has that name: did you mean 'sam'?",
    ),
    "nothing": ("sam", Path.unlink, "holds no raw weights"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_import_is_one_sentence_and_changes_nothing(
    case: str, raw: Callable[..., Path], checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, damage, sentence = BROKEN[case]
    folder, before = raw(name), content(checkpoints)
    damage(folder / f"{name}.safetensors")
    assert main(["train", "--import", str(folder), "--out", str(checkpoints)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert content(checkpoints) == before


@pytest.mark.parametrize("name", ["../sam.safetensors", "/sam.safetensors", "a/sam.safetensors"])
def test_archive_with_a_path_is_refused(
    name: str, raw: Callable[..., Path], checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = raw("sam")
    with tarfile.open(folder / "more.tar", "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = (folder / "sam.safetensors").stat().st_size
        with (folder / "sam.safetensors").open("rb") as file:
            archive.addfile(info, file)
    assert main(["train", "--import", str(folder), "--out", str(checkpoints)]) == 2
    assert f"more.tar: {name!r} is not a file without a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train"], "train takes one of NAME"),
        (["train", "vae", "--import", "raw"], "train takes one of NAME"),
        (["train", "vae", "--force", "vae"], "--force belongs to train --import"),
        (["train", "--import", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_wrong_options_are_one_sentence(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


def test_unknown_choice_is_refused(raw: Callable[..., Path], checkpoints: Path) -> None:
    with pytest.raises(ValueError, match="only has 'vae'"):
        run(raw("sam"), checkpoints, only=["vae"])
