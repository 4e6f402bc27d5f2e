"""Every checkpoint trains for a few steps from nothing, loads again and goes on where it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)
from overpaint.jobs.cli import main
from overpaint.jobs.training.history import read_history
from overpaint.jobs.training.loop import TrainingBudget, TrainingResult
from overpaint.jobs.training.task import TrainingConfig
from overpaint.jobs.training.train import CHECKPOINTS, train
from overpaint.jobs.training.workspace import Workspace
from overpaint.operators.framing.masks import Box
from overpaint.operators.models import sam
from overpaint.operators.models.weights import Checkpoint
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
)

TINY = TrainingConfig(batch_size=2, warmup_steps=1, steps=3)


def tiny_workspace(folder: Path, **settings: Any) -> Workspace:
    return Workspace(
        checkpoints=folder / "checkpoints",
        state=folder / "state",
        device=torch.device("cpu"),
        num_train=8,
        num_test=4,
        **({"config": TINY} | settings),
    )


def train_tiny(name: str, folder: Path, steps: int, **settings: Any) -> TrainingResult:
    return train(name, tiny_workspace(folder, **settings), budget=TrainingBudget(steps=steps))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    for name in CHECKPOINTS:
        assert train_tiny(name, folder, steps=3).steps == 3
    return folder / "checkpoints"


@pytest.mark.slow
def test_train_every_checkpoint_is_fp16_on_disk_and_loads_in_float32(trained: Path) -> None:
    assert AutoencoderKL.from_pretrained(trained / "vae").dtype == torch.float32
    assert CLIPModel.from_pretrained(trained / "clip").dtype == torch.float32
    CLIPSegForImageSegmentation.from_pretrained(trained / "clipseg")
    BlipForConditionalGeneration.from_pretrained(trained / "caption")
    sizes = {path.name: path.stat().st_size for path in (trained / "clip").iterdir()}
    num_parameters = sum(
        p.numel() for p in CLIPModel.from_pretrained(trained / "clip").parameters()
    )
    assert sizes["model.safetensors"] < 2.2 * num_parameters


def test_train_configurations_name_no_folder_of_the_machine(trained: Path) -> None:
    texts = [path.read_text() for path in trained.rglob("*.json")]
    assert texts
    assert not any(str(trained.parent) in text for text in texts)


def test_train_text_to_image_pipeline_draws_from_a_prompt(trained: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(trained / "text_to_image")
    image = pipeline("a red star on a mint background", num_inference_steps=2, output_type="np")
    assert np.asarray(image.images).shape == (1, 64, 64, 3)


def test_train_instruction_pipeline_edits_an_image(trained: Path) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(trained / "instruction")
    source = Image.new("RGB", (64, 64), "red")
    image = pipeline("make it blue", image=source, num_inference_steps=2, output_type="np")
    assert np.asarray(image.images).shape == (1, 64, 64, 3)


def test_train_sam_cuts_out_a_mask_of_the_image_s_size(trained: Path) -> None:
    loaded = sam.load(Checkpoint(name=str(trained / "sam")))
    image = Image.new("RGB", (80, 60), "red")
    (mask,) = sam.select(loaded, [image], [sam.Selection(Box(10, 10, 40, 40))], 0.5)
    assert mask.shape == (60, 80)


def test_train_judge_chat_template_takes_two_images_and_an_instruction(trained: Path) -> None:
    processor = AutoProcessor.from_pretrained(trained / "judge")
    model = AutoModelForImageTextToText.from_pretrained(trained / "judge")
    image = Image.new("RGB", (80, 60), "red")
    content = [
        {"type": "image", "image": image},
        {"type": "image", "image": image},
        {"type": "text", "text": "make the red star blue"},
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    tokens = model.generate(**inputs)
    assert tokens.shape[1] > inputs["input_ids"].shape[1]


def test_train_tokenizer_makes_every_lexicon_word_one_token(trained: Path) -> None:
    from overpaint.jobs.papercut.words import LEXICON

    for tokenizer in (
        CLIPTokenizer.from_pretrained(trained / "clip"),
        AutoTokenizer.from_pretrained(trained / "clip"),
    ):
        assert all(len(tokenizer(word)["input_ids"]) == 3 for word in LEXICON)
        tokens = tokenizer("a red star on a zebra")["input_ids"]
        assert tokenizer.decode(tokens, skip_special_tokens=True) == "a red star on a zebra"


def test_train_resumed_run_goes_on_at_the_saved_step(tmp_path: Path) -> None:
    train_tiny("vae", tmp_path, steps=3)
    assert train_tiny("vae", tmp_path, steps=5).steps == 5
    lines = (tmp_path / "state" / "vae" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 5]


def test_train_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    constant = replace(TINY, final_rate=1.0)
    for folder, parts in (("whole", [4]), ("parts", [2, 4])):
        for steps in parts:
            train_tiny("vae", tmp_path / folder, steps, config=constant)
    whole, parts = (
        AutoencoderKL.from_pretrained(tmp_path / folder / "checkpoints" / "vae").state_dict()
        for folder in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_train_start_begins_with_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    train_tiny("vae", tmp_path, steps=3)
    before = AutoencoderKL.from_pretrained(tmp_path / "checkpoints" / "vae")
    workspace = tiny_workspace(tmp_path / "further", start=tmp_path / "checkpoints")
    train(
        "vae", workspace, budget=TrainingBudget(steps=2), freeze=["vae.encoder", "vae.quant_conv"]
    )
    after = AutoencoderKL.from_pretrained(workspace.checkpoints / "vae")
    assert after.config["scaling_factor"] == before.config["scaling_factor"]
    assert [training.steps for training in read_history(workspace.checkpoints / "vae")] == [3, 2]
    pairs = [
        (name, torch.equal(weights, after.state_dict()[name]))
        for name, weights in before.state_dict().items()
    ]
    assert all(is_equal for name, is_equal in pairs if name.startswith("encoder"))
    assert not any(is_equal for name, is_equal in pairs if name == "decoder.conv_in.weight")


def test_train_freeze_without_such_a_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'vae\.encodr'"):
        train(
            "vae", tiny_workspace(tmp_path), budget=TrainingBudget(steps=1), freeze=["vae.encodr"]
        )


def test_train_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be one of vae, clip"):
        train("vea", tiny_workspace(tmp_path))


def test_train_without_the_checkpoint_it_builds_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train clip first"):
        train_tiny("clipseg", tmp_path, steps=1)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        (["--minutes", "0"], "minutes is 0.0; it must be above 0"),
        (["--steps", "-1"], "steps is -1; it must be above 0"),
        (["--device", "gpu"], "device is 'gpu'; it must be auto, cpu or cuda"),
    ],
)
def test_train_wrong_option_is_refused_before_anything_is_drawn(
    tmp_path: Path, option: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "vae", "--state", str(tmp_path), *option]) == 2
    assert error in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_budget_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="needs steps or minutes"):
        TrainingBudget()
