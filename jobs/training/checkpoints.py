"""Training task of each checkpoint before its first step: modules, examples, hyperparameters.

Order: vae, clip, clipseg, text_to_image, caption, instruction, judge, sam. clipseg starts from
clip, caption from clipseg's vision transformer, and judge from caption's; text_to_image uses the
vae and clip's tokenizer, and instruction starts from text_to_image.
"""

from collections.abc import Callable
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from overpaint.jobs.papercut.words import LEXICON
from overpaint.jobs.training import pictures
from overpaint.jobs.training.caption import (
    CaptionTrainingTask,
    build_caption,
    caption_tokens,
)
from overpaint.jobs.training.clip import CaptionTokens, ClipTrainingTask, build_clip
from overpaint.jobs.training.clipseg import ClipsegTrainingTask, build_clipseg, phrase_tokens
from overpaint.jobs.training.examples import edit_example, mask_example
from overpaint.jobs.training.instruction import (
    InstructionTrainingTask,
    build_edit_scheduler,
    phrasing_tokens,
    sampling_weights,
    widen_unet,
)
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    JudgeTrainingTask,
    answer_tokens,
    build_judge,
    build_processor,
    tokenize_answers,
)
from overpaint.jobs.training.judge_init import initialise_judge
from overpaint.jobs.training.latent_pipelines import encoder_digest, latent_examples
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.sam import SamTrainingTask, build_sam, nonempty_masks
from overpaint.jobs.training.task import TrainingConfig, TrainingTask
from overpaint.jobs.training.text_to_image import (
    TextToImageTrainingTask,
    build_scheduler,
    build_text_encoder,
    build_unet,
)
from overpaint.jobs.training.vae import VaeTrainingTask, build_vae
from overpaint.jobs.training.vision_transfer import copy_clip_to_blip
from overpaint.jobs.training.vocabulary import (
    bert_tokenizer,
    chat_tokenizer,
    clip_tokenizer,
    token_table,
)
from overpaint.jobs.training.workspace import Workspace
from transformers import (
    BlipForConditionalGeneration,
    CLIPModel,
    CLIPSegForImageSegmentation,
    CLIPTextModel,
    CLIPTokenizer,
)


def _vae(workspace: Workspace) -> TrainingTask:
    train, test = workspace.scenes()
    config = TrainingConfig(batch_size=16, learning_rate=1.5e-3, warmup_steps=200, steps=60_000)
    return VaeTrainingTask(
        vae=workspace.initialised(build_vae(), "vae"),
        train=train,
        test=test,
        config=workspace.configured(config),
    )


def _clip(workspace: Workspace) -> TrainingTask:
    train, test = workspace.scenes()
    tokenizer = clip_tokenizer(sorted(LEXICON))
    return ClipTrainingTask(
        clip=workspace.initialised(build_clip(tokenizer), "clip"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        captions=CaptionTokens.from_cache(train, tokenizer),
        config=workspace.configured(TrainingConfig(batch_size=128, learning_rate=1e-3)),
    )


def _clipseg(workspace: Workspace) -> TrainingTask:
    train, test = workspace.split("masks", mask_example)
    tokenizer = _clip_tokenizer(workspace)
    clip = CLIPModel.from_pretrained(workspace.base("clip"))
    return ClipsegTrainingTask(
        clipseg=workspace.initialised(build_clipseg(clip), "clipseg"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        phrases_npt=phrase_tokens(train, tokenizer),
        config=workspace.configured(TrainingConfig(batch_size=64, learning_rate=7e-4)),
    )


def _text_to_image(workspace: Workspace) -> TrainingTask:
    scenes, test = workspace.scenes(workspace.mixture)
    tokenizer = _clip_tokenizer(workspace)
    vae, digest = _frozen_vae(workspace)
    name = f"latents-{workspace.mixture.label}-{digest}"
    encode = latent_examples(scenes, {"latent": "image"}, vae, workspace.device)
    config = TrainingConfig(learning_rate=1.5e-3, warmup_steps=300, steps=60_000)
    return TextToImageTrainingTask(
        unet=workspace.initialised(build_unet(), "text_to_image", "unet"),
        text_encoder=workspace.initialised(
            build_text_encoder(tokenizer), "text_to_image", "text_encoder"
        ),
        tokenizer=tokenizer,
        vae=vae,
        scheduler=build_scheduler(),
        train=workspace.encoded(name, scenes, encode),
        test=test,
        captions=CaptionTokens.from_cache(scenes, tokenizer),
        empty_t=token_table(tokenizer, [""])[0],
        config=workspace.configured(config),
    )


def _instruction(workspace: Workspace) -> TrainingTask:
    edits, test = workspace.split("edits", edit_example)
    tokenizer = _clip_tokenizer(workspace)
    vae, digest = _frozen_vae(workspace)
    images = {"source": "source", "target": "target"}
    encode = latent_examples(edits, images, vae, workspace.device)
    base = workspace.base("text_to_image")
    config = TrainingConfig(learning_rate=1e-3, warmup_steps=200, steps=60_000, save_every_s=600.0)
    unet = widen_unet(UNet2DConditionModel.from_pretrained(base / "unet"))
    text_encoder = CLIPTextModel.from_pretrained(base / "text_encoder")
    return InstructionTrainingTask(
        unet=workspace.initialised(unet, "instruction", "unet"),
        text_encoder=workspace.initialised(text_encoder, "instruction", "text_encoder"),
        tokenizer=tokenizer,
        vae=vae,
        scheduler=build_edit_scheduler(),
        train=workspace.encoded(f"edit-latents-{digest}", edits, encode),
        test=test,
        tokens_npt=phrasing_tokens(edits, tokenizer),
        empty_t=token_table(tokenizer, [""])[0],
        sampling_weights_n=sampling_weights(edits),
        config=workspace.configured(config),
    )


def _caption(workspace: Workspace) -> TrainingTask:
    train, test = workspace.scenes()
    tokenizer = bert_tokenizer([*sorted(LEXICON), ",", "."])
    caption = build_caption(tokenizer)
    clipseg = CLIPSegForImageSegmentation.from_pretrained(workspace.base("clipseg"))
    images = pictures.to_tensor(train.arrays["image"][:64])
    copy_clip_to_blip(caption.vision_model, clipseg.clip.vision_model, images)
    return CaptionTrainingTask(
        caption=workspace.initialised(caption, "caption"),
        tokenizer=tokenizer,
        train=train,
        test=test,
        tokens_nt=caption_tokens(train, tokenizer),
        config=workspace.configured(TrainingConfig(batch_size=32, learning_rate=1e-3)),
    )


def _judge(workspace: Workspace) -> TrainingTask:
    train, test = workspace.split("judge-pairs", pair_example)
    config = TrainingConfig(learning_rate=1e-3, save_every_s=600.0)
    tokenizer = chat_tokenizer([*sorted(LEXICON), *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    processor = build_processor(tokenizer)
    texts_nt, is_answer_nt = tokenize_answers(train, processor)
    judge = build_judge(tokenizer)
    caption = BlipForConditionalGeneration.from_pretrained(workspace.base("caption"))
    initialise_judge(judge, caption, pictures.to_tensor(train.arrays["source"][:64]))
    return JudgeTrainingTask(
        judge=workspace.initialised(judge, "judge"),
        processor=processor,
        train=train,
        test=test,
        texts_nt=texts_nt,
        is_answer_nt=is_answer_nt,
        answers=answer_tokens(tokenizer, workspace.device),
        config=workspace.configured(config),
    )


def _sam(workspace: Workspace) -> TrainingTask:
    train, test = workspace.split("masks", mask_example)
    config = TrainingConfig(batch_size=32, learning_rate=1e-3, warmup_steps=200)
    return SamTrainingTask(
        sam=workspace.initialised(build_sam(), "sam"),
        train=train,
        test=test,
        nonempty=nonempty_masks(train),
        config=workspace.configured(config),
    )


def _clip_tokenizer(workspace: Workspace) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(workspace.base("clip"))


def _frozen_vae(workspace: Workspace) -> tuple[Any, str]:
    """Loads the vae checkpoint, frozen, with a hash of its encoder."""
    vae: Any = AutoencoderKL.from_pretrained(workspace.base("vae"))
    return vae.to(workspace.device).eval().requires_grad_(False), encoder_digest(vae)


CHECKPOINTS: dict[str, Callable[[Workspace], TrainingTask]] = {
    "vae": _vae,
    "clip": _clip,
    "clipseg": _clipseg,
    "text_to_image": _text_to_image,
    "caption": _caption,
    "instruction": _instruction,
    "judge": _judge,
    "sam": _sam,
}
