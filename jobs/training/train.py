"""`overpaint train NAME`: trains one papercut checkpoint, from nothing or from where it was left.

Order: vae, clip, clipseg, text_to_image, caption, judge. clipseg starts from clip, caption from
clipseg's vision transformer; text_to_image needs vae and takes clip's tokenizer.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.caption import (
    CaptionTrainee,
    build_caption,
    caption_tokens,
    start_from_clip,
)
from overpaint.jobs.training.clip import Captions, ClipTrainee, build_clip
from overpaint.jobs.training.clipseg import ClipsegTrainee, build_clipseg, phrase_table
from overpaint.jobs.training.examples import EVERYTHING, Mixture, mask_example, scene_example
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    JudgeTrainee,
    build_judge,
    build_processor,
    text_tables,
)
from overpaint.jobs.training.loop import (
    Budget,
    Outcome,
    Schedule,
    Trainee,
    resolve_device,
    run_training,
)
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.text_to_image import (
    TextToImageTrainee,
    build_scheduler,
    build_text_encoder,
    build_unet,
    digest,
    latent_drawer,
)
from overpaint.jobs.training.vae import VaeTrainee, build_vae
from overpaint.jobs.training.vocabulary import bert_tokenizer, chat_tokenizer, clip_tokenizer
from overpaint.operators.papercut.words import LEXICON
from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """Where a training reads and writes, and how much it draws.

    Attributes:
        checkpoints: Folder with one folder a checkpoint; read by checkpoints that build on others.
        caches: Folder of drawn examples, shared by all trainings.
        device: Where modules are trained.
        num_drawn: Training examples drawn; steps pick from them.
        num_tested: Unseen examples for the figures in the log.
        num_processes: Processes that draw.
        mixture: Scenes of text_to_image; the other checkpoints see all scenes.
        schedule: Replaces the checkpoint's own schedule; None to keep it.
        start: Folder of checkpoints whose weights a training begins with; None for fresh ones.
    """

    checkpoints: Path
    caches: Path
    device: torch.device
    num_drawn: int = 60_000
    num_tested: int = 512
    num_processes: int = 2
    mixture: Mixture = EVERYTHING
    schedule: Schedule | None = None
    start: Path | None = None

    def begun(self, built: M, checkpoint: str, part: str = "") -> M:
        """A module as it was built, or that of the checkpoint to start from."""
        if self.start is None:
            return built
        return type(built).from_pretrained(_existing(self.start / checkpoint / part))

    def scheduled(self, schedule: Schedule) -> Schedule:
        """A checkpoint's own schedule, or what replaces it."""
        return self.schedule or schedule

    def cache(self, name: str, draw: Callable[[int], Example], num_examples: int) -> Cache:
        """Examples of a kind, drawn now if they never were."""
        folder = self.caches / f"{name}-{num_examples}"
        return open_cache(folder, draw, num_examples, num_processes=self.num_processes)

    def encoded(self, name: str, scenes: Cache, encode: Callable[[int], Example]) -> Cache:
        """Latents of cached scenes, encoded now if they never were."""
        folder = self.caches / f"{name}-{len(scenes)}"
        return open_cache(folder, encode, len(scenes), num_processes=1)

    def scenes(self, mixture: Mixture = EVERYTHING) -> tuple[Cache, Cache]:
        """Scenes to train on, and unseen ones."""
        name = f"scenes-{mixture.label}"
        train = partial(scene_example, split="train", mixture=mixture)
        test = partial(scene_example, split="test", mixture=mixture)
        return (
            self.cache(f"{name}-train", train, self.num_drawn),
            self.cache(f"{name}-test", test, self.num_tested),
        )


def train(
    name: str,
    *,
    out: Path,
    state: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    mixture: Mixture = EVERYTHING,
    num_drawn: int = 60_000,
    num_tested: int = 512,
    schedule: Schedule | None = None,
) -> Outcome:
    """Train one checkpoint and write it to `out / name`.

    Args:
        name: One of `CHECKPOINTS`.
        out: Folder of all checkpoints; those that this one builds on are read from it.
        state: Folder of the run's state; None for `default_state() / name`. A state found there
            is continued.
        minutes: Length of the whole run, earlier parts included.
        steps: Number of steps of the whole run; without minutes and steps, the schedule's.
        device: A torch device, or `auto` for CUDA where there is one and else the CPU.
        seed: Decides the first weights and what each step draws.
        mixture: Scenes that text_to_image is trained on.
        num_drawn: Scenes drawn to train on.
        num_tested: Unseen scenes drawn for the figures in the log.
        schedule: Batch size, learning rate and the like; None for the checkpoint's own.

    Raises:
        ValueError: No checkpoint has that name.
        FileNotFoundError: A checkpoint that this one builds on is missing in `out`.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(CHECKPOINTS)}")
    state = state or default_state() / name
    workplace = Workplace(
        checkpoints=out,
        caches=state.parent / "caches",
        device=resolve_device(device),
        num_drawn=num_drawn,
        num_tested=num_tested,
        num_processes=min(os.cpu_count() or 1, 1 + num_drawn // 2000),
        mixture=mixture,
        schedule=schedule,
    )
    torch.manual_seed(seed)
    trainee = CHECKPOINTS[name](workplace)
    if minutes is None and steps is None:
        steps = trainee.schedule.steps
    return run_training(
        trainee,
        out=out / name,
        state=state,
        budget=Budget(steps=steps, minutes=minutes),
        device=workplace.device,
        seed=seed,
    )


def default_state() -> Path:
    """Where states and drawn examples are kept between runs, outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "overpaint" / "training"


def _vae(place: Workplace) -> Trainee:
    train, test = place.scenes()
    schedule = Schedule(batch_size=16, learning_rate=1.5e-3, warmup_steps=200, steps=60_000)
    return VaeTrainee(vae=build_vae(), train=train, test=test, schedule=place.schedule or schedule)


def _clip(place: Workplace) -> Trainee:
    train, test = place.scenes()
    tokenizer = clip_tokenizer(sorted(LEXICON))
    return ClipTrainee(
        clip=build_clip(tokenizer),
        tokenizer=tokenizer,
        train=train,
        test=test,
        captions=Captions.of(train, tokenizer),
        schedule=place.schedule or Schedule(batch_size=128, learning_rate=1e-3),
    )


def _clipseg(place: Workplace) -> Trainee:
    train = place.cache("masks-train", partial(mask_example, split="train"), place.num_drawn)
    test = place.cache("masks-test", partial(mask_example, split="test"), place.num_tested)
    tokenizer = _clips_tokenizer(place)
    clip = CLIPModel.from_pretrained(_existing(place.checkpoints / "clip"))
    return ClipsegTrainee(
        clipseg=build_clipseg(clip),
        tokenizer=tokenizer,
        train=train,
        test=test,
        phrases=phrase_table(train, tokenizer),
        schedule=place.schedule or Schedule(batch_size=64, learning_rate=7e-4),
    )


def _text_to_image(place: Workplace) -> Trainee:
    scenes, test = place.scenes(place.mixture)
    tokenizer = _clips_tokenizer(place)
    folder = _existing(place.checkpoints / "vae")
    vae: Any = AutoencoderKL.from_pretrained(folder)
    vae = vae.to(place.device).eval().requires_grad_(False)
    name = f"latents-{place.mixture.label}-{digest(folder)}"
    train = place.encoded(name, scenes, latent_drawer(scenes, vae, place.device))
    return TextToImageTrainee(
        unet=build_unet(),
        text_encoder=build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        vae=vae,
        scheduler=build_scheduler(),
        train=train,
        test=test,
        captions=Captions.of(train, tokenizer),
        schedule=place.schedule or Schedule(learning_rate=1.5e-3, warmup_steps=300, steps=60_000),
    )


def _caption(place: Workplace) -> Trainee:
    train, test = place.scenes()
    tokenizer = bert_tokenizer([*sorted(LEXICON), ",", "."])
    caption = build_caption(tokenizer)
    clipseg = CLIPSegForImageSegmentation.from_pretrained(_existing(place.checkpoints / "clipseg"))
    start_from_clip(caption, clipseg.clip, pictures.to_tensor(train.arrays["image"][:64]))
    return CaptionTrainee(
        caption=caption,
        tokenizer=tokenizer,
        train=train,
        test=test,
        tokens_nt=caption_tokens(train, tokenizer),
        schedule=place.schedule or Schedule(batch_size=64, learning_rate=1e-3),
    )


def _judge(place: Workplace) -> Trainee:
    train = place.cache("pairs-train", partial(pair_example, split="train"), place.num_drawn)
    test = place.cache("pairs-test", partial(pair_example, split="test"), place.num_tested)
    tokenizer = chat_tokenizer([*sorted(LEXICON), *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    processor = build_processor(tokenizer)
    texts_nt, is_answer_nt = text_tables(train, processor)
    return JudgeTrainee(
        judge=build_judge(tokenizer),
        processor=processor,
        train=train,
        test=test,
        texts_nt=texts_nt,
        is_answer_nt=is_answer_nt,
        schedule=place.schedule or Schedule(batch_size=64, learning_rate=1e-3),
    )


def _clips_tokenizer(place: Workplace) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(_existing(place.checkpoints / "clip"))


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; train {folder.name} first")
    return folder


CHECKPOINTS: dict[str, Callable[[Workplace], Trainee]] = {
    "vae": _vae,
    "clip": _clip,
    "clipseg": _clipseg,
    "text_to_image": _text_to_image,
    "caption": _caption,
    "judge": _judge,
}
