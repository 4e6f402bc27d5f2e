"""Each checkpoint as it stands before its first step: modules, examples and schedule.

Order: vae, clip, clipseg, text_to_image, caption, instruction, judge, sam. clipseg starts from
clip, caption from clipseg's vision transformer and judge from caption's; text_to_image needs vae
and takes clip's tokenizer, and instruction starts from it.
"""

from collections.abc import Callable
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from overpaint.jobs.papercut.words import LEXICON
from overpaint.jobs.training import pictures
from overpaint.jobs.training.caption import (
    CaptionTrainee,
    build_caption,
    caption_tokens,
)
from overpaint.jobs.training.clip import Captions, ClipTrainee, build_clip
from overpaint.jobs.training.clipseg import ClipsegTrainee, build_clipseg, phrase_table
from overpaint.jobs.training.comparator import start_judge
from overpaint.jobs.training.examples import edit_example, mask_example
from overpaint.jobs.training.eyes import clip_to_blip
from overpaint.jobs.training.instruction import (
    InstructionTrainee,
    build_edit_scheduler,
    edit_latent_drawer,
    odds,
    phrasing_table,
    widened,
)
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    JudgeTrainee,
    build_judge,
    build_processor,
    rightness,
    text_tables,
)
from overpaint.jobs.training.loop import Schedule, Trainee
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.sam import SamTrainee, build_sam, usable_masks
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
from overpaint.jobs.training.workplace import Workplace, existing
from transformers import (
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
    CLIPTextModel,
    CLIPTokenizer,
)


def _vae(place: Workplace) -> Trainee:
    train, test = place.scenes()
    schedule = Schedule(batch_size=16, learning_rate=1.5e-3, warmup_steps=200, steps=60_000)
    return VaeTrainee(
        vae=place.begun(build_vae(), "vae"),
        train=train,
        test=test,
        schedule=place.scheduled(schedule),
    )


def _clip(place: Workplace) -> Trainee:
    train, test = place.scenes()
    tokenizer = clip_tokenizer(sorted(LEXICON))
    return ClipTrainee(
        clip=place.begun(build_clip(tokenizer), "clip"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        captions=Captions.of(train, tokenizer),
        schedule=place.scheduled(Schedule(batch_size=128, learning_rate=1e-3)),
    )


def _clipseg(place: Workplace) -> Trainee:
    train, test = place.split("masks", mask_example)
    tokenizer = _clips_tokenizer(place)
    clip = CLIPModel.from_pretrained(existing(place.checkpoints / "clip"))
    return ClipsegTrainee(
        clipseg=place.begun(build_clipseg(clip), "clipseg"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        phrases=phrase_table(train, tokenizer),
        schedule=place.scheduled(Schedule(batch_size=64, learning_rate=7e-4)),
    )


def _text_to_image(place: Workplace) -> Trainee:
    scenes, test = place.scenes(place.mixture)
    tokenizer = _clips_tokenizer(place)
    vae, digits = _resting_vae(place)
    name = f"latents-{place.mixture.label}-{digits}"
    train = place.encoded(name, scenes, latent_drawer(scenes, vae, place.device))
    schedule = Schedule(learning_rate=1.5e-3, warmup_steps=300, steps=60_000)
    return TextToImageTrainee(
        unet=place.begun(build_unet(), "text_to_image", "unet"),
        text_encoder=place.begun(build_text_encoder(tokenizer), "text_to_image", "text_encoder"),
        tokenizer=tokenizer,
        vae=vae,
        scheduler=build_scheduler(),
        train=train,
        test=test,
        captions=Captions.of(train, tokenizer),
        schedule=place.scheduled(schedule),
    )


def _instruction(place: Workplace) -> Trainee:
    edits, test = place.split("edits", edit_example)
    tokenizer = _clips_tokenizer(place)
    vae, digits = _resting_vae(place)
    drawer = edit_latent_drawer(edits, vae, place.device)
    base = existing(place.checkpoints / "text_to_image")
    schedule = Schedule(learning_rate=1e-3, warmup_steps=200, steps=60_000, save_every_s=600.0)
    unet = widened(UNet2DConditionModel.from_pretrained(base / "unet"))
    text_encoder = CLIPTextModel.from_pretrained(base / "text_encoder")
    return InstructionTrainee(
        unet=place.begun(unet, "instruction", "unet"),
        text_encoder=place.begun(text_encoder, "instruction", "text_encoder"),
        tokenizer=tokenizer,
        vae=vae,
        scheduler=build_edit_scheduler(),
        train=place.encoded(f"edit-latents-{digits}", edits, drawer),
        test=test,
        tokens_npt=phrasing_table(edits, tokenizer),
        odds_n=odds(edits),
        schedule=place.scheduled(schedule),
    )


def _caption(place: Workplace) -> Trainee:
    train, test = place.scenes()
    tokenizer = bert_tokenizer([*sorted(LEXICON), ",", "."])
    caption = build_caption(tokenizer)
    clipseg = CLIPSegForImageSegmentation.from_pretrained(existing(place.checkpoints / "clipseg"))
    eyes, images = clipseg.clip.vision_model, pictures.to_tensor(train.arrays["image"][:64])
    clip_to_blip(caption.vision_model, eyes, images)
    return CaptionTrainee(
        caption=place.begun(caption, "caption"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        tokens_nt=caption_tokens(train, tokenizer),
        schedule=place.scheduled(Schedule(batch_size=32, learning_rate=1e-3)),
    )


def _judge(place: Workplace) -> Trainee:
    train, test = place.split("asked-pairs", pair_example)
    schedule = Schedule(learning_rate=1e-3, save_every_s=600.0)
    tokenizer = chat_tokenizer([*sorted(LEXICON), *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    processor = build_processor(tokenizer)
    texts_nt, is_answer_nt = text_tables(train, processor)
    judge = build_judge(tokenizer)
    caption = BlipForConditionalGeneration.from_pretrained(existing(place.checkpoints / "caption"))
    start_judge(judge, caption, pictures.to_tensor(train.arrays["source"][:64]))
    return JudgeTrainee(
        judge=place.begun(judge, "judge"),
        processor=processor,
        train=train,
        test=test,
        texts_nt=texts_nt,
        is_answer_nt=is_answer_nt,
        rightness_vv=rightness(tokenizer).to(place.device),
        schedule=place.scheduled(schedule),
    )


def _sam(place: Workplace) -> Trainee:
    train, test = place.split("masks", mask_example)
    schedule = Schedule(batch_size=32, learning_rate=1e-3, warmup_steps=200)
    return SamTrainee(
        sam=place.begun(build_sam(), "sam"),
        train=train,
        test=test,
        usable=usable_masks(train),
        schedule=place.scheduled(schedule),
    )


def _clips_tokenizer(place: Workplace) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(existing(place.checkpoints / "clip"))


def _resting_vae(place: Workplace) -> tuple[Any, str]:
    """The vae checkpoint, not to be trained, and a hash of its encoder."""
    vae: Any = AutoencoderKL.from_pretrained(existing(place.checkpoints / "vae"))
    return vae.to(place.device).eval().requires_grad_(False), digest(vae)


CHECKPOINTS: dict[str, Callable[[Workplace], Trainee]] = {
    "vae": _vae,
    "clip": _clip,
    "clipseg": _clipseg,
    "text_to_image": _text_to_image,
    "caption": _caption,
    "instruction": _instruction,
    "judge": _judge,
    "sam": _sam,
}
