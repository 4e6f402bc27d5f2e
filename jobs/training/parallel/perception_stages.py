"""Stages of the lane of models that see: judge, caption, clipseg and sam."""

from typing import Any

import torch
from overpaint.jobs.papercut.words import LEXICON
from overpaint.jobs.training import losses
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    answer_tokens,
)
from overpaint.jobs.training.judge_loss import PairBatch, judge_loss
from overpaint.jobs.training.pairs import PAIRS_AN_EDIT
from overpaint.jobs.training.parallel.bank import Bank
from overpaint.jobs.training.parallel.stepper import StepSettings
from overpaint.jobs.training.parallel.workshop import Stage, Trainee, Workshop
from overpaint.jobs.training.sam_loss import sam_loss
from overpaint.jobs.training.vocabulary import chat_tokenizer
from torch import Tensor
from transformers import (
    BlipForConditionalGeneration,
    CLIPSegForImageSegmentation,
    LlavaForConditionalGeneration,
    SamModel,
)


def _load(shop: Workshop, kind: Any, name: str) -> Any:
    model = kind.from_pretrained(shop.shipped / name, dtype=torch.float32)
    if weights := shop.result(name, name):
        model.load_state_dict(weights, strict=False)
    return model


def _judge(shop: Workshop, batch_size: int) -> Trainee:
    judge = _load(shop, LlavaForConditionalGeneration, "judge")
    tokenizer = chat_tokenizer([*sorted(LEXICON), *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    answers = answer_tokens(tokenizer, shop.device)
    bank = shop.bank("pair")

    def loss() -> Tensor:
        return judge_loss(judge, _pairs(bank, batch_size, judge.dtype), answers)

    return Trainee({"judge": judge}, loss, (bank,))


def _pairs(bank: Bank, batch_size: int, dtype: torch.dtype) -> PairBatch:
    """Picks edits with all of their pairs, which are similar to each other."""
    edits = bank.pick(max(1, batch_size // PAIRS_AN_EDIT)) // PAIRS_AN_EDIT
    offsets = torch.arange(PAIRS_AN_EDIT, device=edits.device)
    picked = (edits[:, None] * PAIRS_AN_EDIT + offsets).flatten()
    fields = bank.fields
    both = torch.stack([fields[name][picked] for name in ("source", "edited")], dim=1)
    tokens = fields["tokens"][picked].long()
    places = torch.arange(tokens.shape[1], device=edits.device)
    starts, ends = (fields[name][picked, None] for name in ("answer_start", "length"))
    is_answer = (places >= starts) & (places < ends)
    return PairBatch(losses.to_images(both.flatten(0, 1), dtype), tokens, is_answer)


def _caption(shop: Workshop, batch_size: int) -> Trainee:
    caption = _load(shop, BlipForConditionalGeneration, "caption")
    padding = int(caption.generation_config.pad_token_id)
    bank = shop.bank("scene", "image", "ordered")

    def loss() -> Tensor:
        picked = bank.pick(batch_size)
        images = losses.to_images(bank.fields["image"][picked], caption.dtype)
        return losses.caption_loss(caption, images, bank.fields["ordered"][picked].long(), padding)

    return Trainee({"caption": caption}, loss, (bank,))


def _clipseg(shop: Workshop, batch_size: int) -> Trainee:
    clipseg = _load(shop, CLIPSegForImageSegmentation, "clipseg")
    bank = shop.bank("mask")

    def loss() -> Tensor:
        picked = bank.pick(batch_size)
        phrases = bank.fields["phrases"]
        choice = torch.rand(batch_size, device=shop.device) * phrases.shape[1]
        return losses.clipseg_loss(
            clipseg,
            losses.to_images(bank.fields["image"][picked], clipseg.dtype),
            phrases[picked, choice.long()].long(),
            bank.fields["mask"][picked].float(),
        )

    return Trainee({"clipseg": clipseg}, loss, (bank,))


def _sam(shop: Workshop, batch_size: int) -> Trainee:
    sam = _load(shop, SamModel, "sam")
    bank = shop.bank("mask", "image", "mask")

    def loss() -> Tensor:
        picked = bank.pick(batch_size)
        images = losses.to_images(bank.fields["image"][picked], sam.dtype)
        return sam_loss(sam, images, bank.fields["mask"][picked].float())

    return Trainee({"sam": sam}, loss, (bank,))


PERCEPTION_STAGES: tuple[Stage, ...] = (
    Stage(
        name="judge",
        checkpoint="judge",
        share=120,
        batch_size=128,
        cpu_batch_size=32,
        settings=StepSettings(learning_rate=8e-4, warmup_steps=200, ema_decay=0.999),
        build=_judge,
    ),
    Stage(
        name="clipseg",
        checkpoint="clipseg",
        share=15,
        batch_size=128,
        cpu_batch_size=64,
        settings=StepSettings(learning_rate=5e-4, warmup_steps=100, ema_decay=0.999),
        build=_clipseg,
    ),
    Stage(
        name="caption",
        checkpoint="caption",
        share=15,
        batch_size=128,
        cpu_batch_size=32,
        settings=StepSettings(learning_rate=5e-4, warmup_steps=100, ema_decay=0.999),
        build=_caption,
    ),
    Stage(
        name="sam",
        checkpoint="sam",
        share=25,
        batch_size=128,
        cpu_batch_size=32,
        # The frequencies of its positions are not exact enough in bf16.
        settings=StepSettings(learning_rate=5e-4, warmup_steps=100, ema_decay=0.999, is_half=False),
        build=_sam,
    ),
)
"""Stages that depend on none other."""
