"""Figures of each checkpoint on unseen test scenes, as `overpaint bench checkpoints` reports them.

Every function loads a checkpoint from its folder with plain `from_pretrained`, as any user would.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from overpaint.jobs.training import pictures
from overpaint.jobs.training.attributes import names_right, read_scene
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.caption import attributes_of, write_captions
from overpaint.jobs.training.clip import rank1_among
from overpaint.jobs.training.clipseg import find_masks, iou
from overpaint.jobs.training.examples import (
    SINGLE_OBJECT,
    mask_example,
    mixture_scene,
    rgb,
    scene_example,
)
from overpaint.jobs.training.judge import auc, judge_pairs, product
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.text_to_image import generate
from overpaint.jobs.training.vae import reconstruct
from overpaint.operators.papercut.draw import draw
from overpaint.operators.papercut.words import captions
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
)

_CPU = torch.device("cpu")


class Figure(NamedTuple):
    """One measured figure of a checkpoint, with the number of test scenes behind it."""

    name: str
    value: float
    num_scenes: int


class Place(NamedTuple):
    """Where a checkpoint is measured.

    Attributes:
        checkpoints: Folder with one folder a checkpoint.
        caches: Folder of drawn test scenes.
        num_scenes: Unseen scenes.
        device: Where models run.
    """

    checkpoints: Path
    caches: Path
    num_scenes: int = 512
    device: torch.device = _CPU

    def drawn(self, name: str, draw_example: Callable[..., Example]) -> Cache:
        """Unseen examples of a kind."""
        return open_cache(
            self.caches / f"{name}-test-{self.num_scenes}",
            partial(draw_example, split="test"),
            self.num_scenes,
            num_processes=1,
        )


def measure(name: str, place: Place) -> list[Figure]:
    """The figures of a checkpoint.

    Args:
        name: One of `MEASURES`.
        place: Where the checkpoint is and how many scenes to measure it on.

    Raises:
        ValueError: No checkpoint of that name is measured.
    """
    if name not in MEASURES:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(MEASURES)}")
    with torch.no_grad():
        found = MEASURES[name](place)
    return [Figure(figure, value, place.num_scenes) for figure, value in found.items()]


def _vae(place: Place) -> dict[str, float]:
    vae = _loaded(AutoencoderKL.from_pretrained(place.checkpoints / "vae"), place)
    images = np.asarray(place.drawn("scenes-all", scene_example).arrays["image"])
    psnr_db = pictures.psnr(images, reconstruct(vae, images))
    return {
        "psnr_db_mean": float(psnr_db.mean()),
        "psnr_db_p5": float(np.percentile(psnr_db, 5)),
    }


def _clip(place: Place) -> dict[str, float]:
    folder = place.checkpoints / "clip"
    clip = _loaded(CLIPModel.from_pretrained(folder), place)
    test = place.drawn("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return {"rank1_of_64": rank1_among(clip, tokenizer, test, place.device)}


def _clipseg(place: Place) -> dict[str, float]:
    folder = place.checkpoints / "clipseg"
    clipseg = _loaded(CLIPSegForImageSegmentation.from_pretrained(folder), place)
    test = place.drawn("masks", mask_example)
    phrases = [entry["phrases"][0] for entry in test.texts]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = find_masks(clipseg, tokenizer, test.arrays["image"], phrases, place.device)
    overlaps = iou(test.arrays["mask"] > 127, found)
    return {"iou_mean": float(overlaps.mean()), "iou_p5": float(np.percentile(overlaps, 5))}


def _caption(place: Place) -> dict[str, float]:
    folder = place.checkpoints / "caption"
    model = _loaded(BlipForConditionalGeneration.from_pretrained(folder), place)
    test = place.drawn("scenes-all", scene_example)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = write_captions(model, tokenizer, test.arrays["image"], place.device)
    true = [entry["ordered"] for entry in test.texts]
    right = [attributes_of(a) == attributes_of(b) for a, b in zip(made, true, strict=True)]
    word_for_word = [
        a.split() == b.replace(",", " ,").split() for a, b in zip(made, true, strict=True)
    ]
    return {
        "attributes_right": float(np.mean(right)),
        "word_for_word": float(np.mean(word_for_word)),
    }


def _text_to_image(place: Place) -> dict[str, float]:
    """Attributes of generated single-object images, and what the check reads in true drawings."""
    folder = place.checkpoints / "text_to_image"
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(place.device)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [
        mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        for index in range(place.num_scenes)
    ]
    images = generate(pipeline, [captions(scene)[0] for scene in scenes])
    made = [
        names_right(scene, read_scene(image)) for scene, image in zip(scenes, images, strict=True)
    ]
    true = [names_right(scene, read_scene(rgb(draw(scene)))) for scene in scenes]
    figures = {"attributes_right": float(np.mean([all(right.values()) for right in made]))}
    counts = Counter(name for right in made for name, is_right in right.items() if is_right)
    figures |= {f"{name}_right": counts[name] / len(made) for name in made[0]}
    return figures | {"check_accuracy": float(np.mean([all(right.values()) for right in true]))}


def _judge(place: Place) -> dict[str, float]:
    folder = place.checkpoints / "judge"
    judge = _loaded(AutoModelForImageTextToText.from_pretrained(folder), place)
    test = place.drawn("pairs", pair_example)
    answers = judge_pairs(
        judge, AutoProcessor.from_pretrained(folder), test, range(len(test)), place.device
    )
    values = [product(answer) for answer in answers]
    outcomes = [entry["outcome"] for entry in test.texts]
    figures = {"auc": auc(values, [outcome == "true" for outcome in outcomes])}
    for other in ("failed", "no-op", "over-edited", "other"):
        kept = [i for i, outcome in enumerate(outcomes) if outcome in ("true", other)]
        truths = [outcomes[i] == "true" for i in kept]
        figures[f"auc_{other}"] = auc([values[i] for i in kept], truths)
    return figures


def _loaded(model: Any, place: Place) -> Any:
    return model.to(place.device).eval()


MEASURES: dict[str, Callable[[Place], dict[str, float]]] = {
    "vae": _vae,
    "text_to_image": _text_to_image,
    "clip": _clip,
    "clipseg": _clipseg,
    "caption": _caption,
    "judge": _judge,
}
