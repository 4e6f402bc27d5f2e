"""Measures of the checkpoints that make images: vae, text_to_image, instruction and inpainting."""

import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.words import captions
from overpaint.jobs.training import pictures
from overpaint.jobs.training.caption import attributes_of, generate_captions
from overpaint.jobs.training.edit_success import (
    MeasuredEdit,
    edit_test_scenes,
    inpainting_editor,
    instruction_editor,
)
from overpaint.jobs.training.examples import SINGLE_OBJECT, mixture_scene, rgb, scene_example
from overpaint.jobs.training.measurement import NUM_SHOWN, EvalContext, Measurement
from overpaint.jobs.training.scene_reader import SceneReading, correct_attributes, read_scene
from overpaint.jobs.training.text_to_image import generate
from overpaint.jobs.training.vae import reconstruct
from PIL import Image
from transformers import AutoTokenizer, BlipForConditionalGeneration

# Reading a scene takes a fifth of a second; starting a process takes more.
_SCENES_A_PROCESS = 32


def measure_vae(context: EvalContext) -> Measurement:
    """Measures the PSNR of reconstructed scenes."""
    vae = context.loaded(AutoencoderKL.from_pretrained(context.checkpoints / "vae"))
    images = np.asarray(context.test_examples("scenes-all", scene_example).arrays["image"])
    decoded = reconstruct(vae, images)
    psnr_db = pictures.psnr(images, decoded)
    figures = {
        "psnr_db_mean": float(psnr_db.mean()),
        "psnr_db_p5": float(np.percentile(psnr_db, 5)),
    }
    return Measurement(figures, pictures.image_grid([images[:NUM_SHOWN], decoded[:NUM_SHOWN]]))


def measure_text_to_image(context: EvalContext) -> Measurement:
    """Measures attributes of generated images: single objects, and scenes of the whole world.

    `read_scene` reads single objects without a model; the whole world is read by the caption
    checkpoint, whose own errors count against the images.
    """
    folder = context.checkpoints / "text_to_image"
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(context.device)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [
        mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        for index in range(context.num_scenes)
    ]
    images = generate(pipeline, [captions(scene)[0] for scene in scenes])
    drawn = np.stack([rgb(draw(scene)) for scene in scenes])
    generated = [correct_attributes(*pair) for pair in zip(scenes, _read(images), strict=True)]
    true = [correct_attributes(*pair) for pair in zip(scenes, _read(drawn), strict=True)]
    world = _attributes_right_world(pipeline, context)
    figures = {"attributes_right": float(np.mean([all(right.values()) for right in generated]))}
    figures["attributes_right_world"] = world
    counts = Counter(name for right in generated for name, is_right in right.items() if is_right)
    figures |= {f"{name}_right": counts[name] / len(generated) for name in generated[0]}
    figures["check_accuracy"] = float(np.mean([all(right.values()) for right in true]))
    return Measurement(figures, pictures.image_grid([images[:NUM_SHOWN], drawn[:NUM_SHOWN]]))


def _attributes_right_world(pipeline: StableDiffusionPipeline, context: EvalContext) -> float:
    """Returns the share of generated scenes, of all kinds, that are captioned as was asked."""
    folder = context.checkpoints / "caption"
    caption = context.loaded(BlipForConditionalGeneration.from_pretrained(folder))
    texts = context.test_examples("scenes-all", scene_example).texts
    images = generate(pipeline, [entry["captions"][0] for entry in texts])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    written = generate_captions(caption, tokenizer, images, context.device)
    both = zip(written, texts, strict=True)
    right = [attributes_of(read) == attributes_of(entry["ordered"]) for read, entry in both]
    return float(np.mean(right))


def _read(images: NDArray[np.uint8]) -> list[SceneReading]:
    """Reads scenes in as many processes as there are cores."""
    num_processes = min(os.cpu_count() or 1, len(images) // _SCENES_A_PROCESS)
    if num_processes <= 1:
        return [read_scene(image) for image in images]
    # spawn: a fork of a process that has used OpenMP threads may hang.
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        return pool.map(read_scene, list(images), chunksize=_SCENES_A_PROCESS // 2)


def measure_instruction(context: EvalContext) -> Measurement:
    """Measures success over the 12 types and of each, and the oracle's success."""
    edit = instruction_editor(context.checkpoints / "instruction")
    return _measured(edit_test_scenes(edit, context.num_scenes))


def measure_inpainting(context: EvalContext) -> Measurement:
    """Measures success of `replace` and `remove` in the true mask, by the target's caption."""
    edit = inpainting_editor(context.checkpoints / "inpainting")
    types = ("replace", "remove")
    return _measured(edit_test_scenes(edit, context.num_scenes, edit_types=types))


def _measured(edits: Sequence[MeasuredEdit]) -> Measurement:
    figures = {
        "success": float(np.mean([edit.is_success for edit in edits])),
        "oracle_success": float(np.mean([edit.is_oracle_success for edit in edits])),
    }
    by_type: dict[str, list[bool]] = defaultdict(list)
    for edit in edits:
        by_type[edit.edit_type].append(edit.is_success)
    figures |= {f"success_{name}": float(np.mean(values)) for name, values in by_type.items()}
    return Measurement(figures, _edit_sheet(edits[: 2 * NUM_SHOWN]))


def _edit_sheet(edits: Sequence[MeasuredEdit]) -> Image.Image:
    rows = [
        np.stack([getattr(edit, name) for edit in edits[start : start + NUM_SHOWN]])
        for start in range(0, len(edits), NUM_SHOWN)
        for name in ("source", "edited", "target")
    ]
    return pictures.image_grid(rows)
