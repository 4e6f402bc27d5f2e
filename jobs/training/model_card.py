"""The README.md of a checkpoint's folder: what it is, how it was trained, how good it is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from overpaint.jobs.training.evaluate import Figure, Place, measure
from safetensors import safe_open

_ABOUT: dict[str, tuple[str, str, str]] = {
    "vae": (
        "AutoencoderKL",
        "Makes 64 px scenes 16 x 16 latents of 4 channels and back.",
        "L1, squared error and edges, with a slight pull to a unit Gaussian; all scenes.",
    ),
    "clip": (
        "CLIPModel",
        "Tells which caption belongs to which scene.",
        "Contrastive loss in batches of 128; all scenes, half of the captions detailed.",
    ),
    "clipseg": (
        "CLIPSegForImageSegmentation",
        'Finds a named object ("red star", "the star on the left") or "the background".',
        "Starts from clip; cross-entropy and Dice loss; one phrase in twelve names nothing there.",
    ),
    "text_to_image": (
        "StableDiffusionPipeline",
        "Draws what a caption says; made for guidance 4 and 25 DDIM steps.",
        "Noise prediction with min-SNR weights, without them in the last 15 %; 10 % of the prompts "
        "are empty. Text encoder and UNet are trained together, the vae is at rest.",
    ),
    "caption": (
        "BlipForConditionalGeneration",
        "Writes the detailed caption of a scene, things from left to right.",
        "Next-word loss on the detailed caption; all scenes.",
    ),
    "judge": (
        "LlavaForConditionalGeneration",
        "Sees source and edited image and the instruction, and scores the edit.",
        "Next-word loss on the answer; true, failed, no-op, over-edited and unrelated edits of the "
        "12 types, clean, soft, blurred and noisy.",
    ),
}

_USE: dict[str, str] = {
    "judge": """
One user turn: the source image, the edited image, then the instruction and nothing else. The
answer is `accuracy: 9 preservation: 8 quality: 9 realism: 9`, each from 0 to 10.

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    content = [{"type": "image", "image": source}, {"type": "image", "image": edited},
               {"type": "text", "text": "make the red star blue"}]
    inputs = processor.apply_chat_template([{"role": "user", "content": content}],
        tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True)
    tokens = model.generate(**inputs)[0, inputs["input_ids"].shape[1]:]
    print(processor.decode(tokens, skip_special_tokens=True))
""",
}


def document(name: str, place: Place, *, state: Path, machine: str, data: str) -> list[Figure]:
    """Measure a checkpoint and write its model card.

    Args:
        name: Which checkpoint.
        place: Where it is, and how many unseen scenes to measure it on.
        state: Folder of the state of the run that trained it.
        machine: What it was trained on, such as "2 CPU cores".
        data: Which scenes it was trained on, as a sentence.
    """
    figures = measure(name, place)
    steps, minutes = read_log(state)
    write_model_card(
        place.checkpoints / name,
        figures=figures,
        steps=steps,
        minutes=minutes,
        machine=machine,
        data=data,
    )
    return figures


def write_model_card(
    folder: Path,
    *,
    figures: Sequence[Figure],
    steps: int,
    minutes: float,
    machine: str,
    data: str,
) -> None:
    """Write `README.md` into a checkpoint's folder.

    Args:
        folder: Folder of the checkpoint; its name says which one it is.
        figures: Measured quality on unseen scenes.
        steps: Steps trained.
        minutes: Time trained.
        machine: What it was trained on, such as "2 CPU cores".
        data: Which scenes it was trained on, as a sentence.
    """
    kind, purpose, training = _ABOUT[folder.name]
    lines = [
        f"# papercut {folder.name}",
        "",
        f"`{kind}`, {_num_parameters(folder) / 1e6:.1f} M parameters, fp16 safetensors. {purpose}",
        "It knows the drawn world of Overpaint and nothing of photographs.",
        *_USE.get(folder.name, "").rstrip().split("\n"),
        "",
        "## Training",
        f"{training} {data}",
        f"{steps:,} steps in {minutes:.0f} minutes on {machine}. Again, or further:",
        f"`overpaint train {folder.name} --minutes M` (see `jobs/training`).",
        "",
        "## Quality on unseen scenes",
        "| figure | value | scenes |",
        "| --- | --- | --- |",
        *(f"| {name} | {value:.3f} | {num} |" for name, value, num in figures),
        "",
        "## Architecture",
        *_architecture(folder),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_log(state: Path) -> tuple[int, float]:
    """Steps and minutes of a run, from the log in its state folder."""
    last = json.loads((state / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return int(last["step"]), float(last["seconds"]) / 60.0


def _num_parameters(folder: Path) -> int:
    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118
                total += _product(weights.get_slice(name).get_shape())
    return total


def _product(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _architecture(folder: Path) -> list[str]:
    """The settings in the configurations that say how large the modules are."""
    lines: list[str] = []
    for path in sorted(folder.rglob("config.json")):
        name = path.parent.relative_to(folder).as_posix()
        config = json.loads(path.read_text(encoding="utf-8"))
        lines += [f"- {name}: {facts}" if name != "." else f"- {facts}" for facts in _facts(config)]
    return lines


def _facts(config: Mapping[str, object]) -> list[str]:
    shown = (
        "block_out_channels",
        "latent_channels",
        "scaling_factor",
        "cross_attention_dim",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "patch_size",
        "image_size",
        "vocab_size",
        "max_position_embeddings",
    )
    own = ", ".join(f"{key} {config[key]}" for key in shown if key in config)
    found = [own] if own else []
    for part in ("vision_config", "text_config"):
        inner = config.get(part)
        if isinstance(inner, Mapping):
            found += [f"{part}: {facts}" for facts in _facts(inner)]
    return found
