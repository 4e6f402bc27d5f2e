"""Broken raw weights and wrong options are one sentence each, and nothing is changed."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from overpaint.jobs.cli import main
from raw_weights import change, content, write_facts


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
