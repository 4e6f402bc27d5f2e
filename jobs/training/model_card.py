"""Model cards: the README.md of a checkpoint, with its purpose, training and figures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overpaint.jobs.training.history import read_history
from safetensors import safe_open

_ABOUT: dict[str, tuple[str, str, str]] = {
    "vae": (
        "AutoencoderKL",
        "Makes 64 px scenes 16 x 16 latents of 4 channels and back.",
        "L1, squared error and edges, with a slight pull to a unit Gaussian; all scenes, masks, "
        "segmentation maps, sketches, reference crops and masked scenes. At the end the "
        "decoder alone, on latents with noise of up to a quarter of their deviation.",
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
    "instruction": (
        "StableDiffusionInstructPix2PixPipeline",
        "Edits a scene as an instruction says, by the method `instruct_pix2pix`; made for "
        "guidance_scale 2, image_guidance_scale 1.5 and 20 steps.",
        "Starts from text_to_image, with 4 more input channels for the source; velocity prediction "
        "on the true targets of the 12 edit types, on a noise schedule of zero terminal SNR, half "
        "of the loss where the edit changes something, half where it shall not. Types that are "
        "learned slowly are picked up to four times more often. Instruction, source or both are "
        "left out 5 % of the time each. Half of the edits came with a label of their type, whose "
        "embeddings `unet/task_labels.safetensors` holds; without them it is the same editor.",
    ),
    "inpainting": (
        "StableDiffusionInpaintPipeline",
        "Fills a mask with what a caption says, by the method `inpaint`; made for guidance_scale "
        "4, 20 steps and the task `scene`. `unet/task_labels.safetensors` holds embeddings of "
        "tasks, the field `task` of the method; plain diffusers does not read them and draws for "
        "an unknown task.",
        "Starts from instruction, the source's channels taken for the masked image; velocity "
        "prediction on a noise schedule of zero terminal SNR, half of the loss inside the mask, "
        "half outside. Masks are shapes of things, near and rough, boxes, strokes and margins. "
        "10 % of the prompts are empty.",
    ),
    "sam": (
        "SamModel",
        "Cuts out what a box or points select.",
        "Cross-entropy and Dice loss on the masks of objects and backgrounds, each image selected "
        "by a box (0.4 of the loss), by one point (0.4) and by three (0.2).",
    ),
    "caption": (
        "BlipForConditionalGeneration",
        "Writes the detailed caption of a scene, things from left to right.",
        "Starts from clipseg's vision transformer; next-word loss on the detailed caption.",
    ),
    "judge": (
        "LlavaForConditionalGeneration",
        "Sees source and edited image and the instruction, says what both show and what was "
        "wanted, and scores the edit. It tells worst where the right item was changed wrongly.",
        "Starts from caption's vision transformer and with heads that compare the two images. "
        "Next-word loss on the answer, scores near the true one counted as partly right, so that "
        "doubt reads as a middling score; true, failed, no-op, over-edited and unrelated edits of "
        "the 12 types, clean, soft, blurred and noisy.",
    ),
}

_USE: dict[str, str] = {
    "judge": """
One user turn: the source image, the edited image, then the instruction and nothing else. The
answer is `before: a red star ... after: a blue star ... wanted: a blue star ... accuracy: 9
preservation: 8 quality: 9 realism: 9`, each score from 0 to 10.

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


def write_model_card(folder: Path, figures: Sequence[Mapping[str, Any]]) -> None:
    """Writes `README.md` into a checkpoint's folder.

    Args:
        folder: folder of the checkpoint, with the checkpoint's name.
        figures: rows of `overpaint bench checkpoints` for this checkpoint.
    """
    kind, purpose, method = _ABOUT[folder.name]
    lines = [
        f"# papercut {folder.name}",
        "",
        f"`{kind}`, {_num_parameters(folder) / 1e6:.1f} M parameters, fp16 safetensors. {purpose}",
        "It knows the drawn world of Overpaint and nothing of photographs.",
        *_USE.get(folder.name, "").rstrip().split("\n"),
        "",
        "## Training",
        method,
        "",
        *(f"- {training}" for training in read_history(folder)),
        "",
        *_how_to_train(folder.name),
        "",
        "## Quality on unseen scenes",
        f"As `overpaint bench checkpoints --only {folder.name}` measures it.",
        "",
        "| figure | value | bar | scenes |",
        "| --- | --- | --- | --- |",
        *map(_figure_line, figures),
        "",
        "## Architecture",
        *_architecture(folder),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _how_to_train(name: str) -> list[str]:
    if name == "inpainting":
        return ["It is trained with all others, by `overpaint train --all`."]
    return [
        f"From nothing: `overpaint train {name} --minutes M`. Further from here:",
        "the same with `--start`, the folder of all checkpoints.",
    ]


def _figure_line(row: Mapping[str, Any]) -> str:
    bar = "" if row["bar"] is None else f"{row['bar']:.3f}"
    return f"| {row['figure']} | {row['value']:.3f} | {bar} | {row['scenes']} |"


def _num_parameters(folder: Path) -> int:
    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118
                total += math.prod(weights.get_slice(name).get_shape())
    return total


def _architecture(folder: Path) -> list[str]:
    """Returns the settings of the configurations that describe the size of the modules."""
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
    own = ", ".join(f"{key} {config[key]}" for key in shown if config.get(key) is not None)
    facts = [own] if own else []
    for module in ("vision_config", "text_config", "mask_decoder_config"):
        inner = config.get(module)
        if isinstance(inner, Mapping):
            facts += [f"{module}: {fact}" for fact in _facts(inner)]
    return facts
