"""Checkpoint `judge`: a small LLaVA that sees source and edited image and answers in words.

An answer captions both images, as EditEval has a judge describe an edit before scoring it, and then
the image that the instruction asks for. The scores of the four factors follow, 0 to 10: does the
edit follow the instruction (accuracy), is the rest unchanged (preservation), is the image clean
(quality), does it look like a picture of this world (realism). The captions explain the scores, and
make the model attend to the images; training on scores alone failed.

Shapes: n pairs, 3 RGB channels, h and w pixels, t tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.clip import clip_image_processor
from overpaint.jobs.training.judge_loss import AnswerTokens, PairBatch, judge_loss
from overpaint.jobs.training.pairs import PAIRS_AN_EDIT
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.jobs.training.word_ids import word_ids_of
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

FACTORS = ("accuracy", "preservation", "quality", "realism")
ANSWER_WORDS = (
    *("before:", "after:", ","),
    *(f"{factor}:" for factor in FACTORS),
    *(str(score) for score in range(11)),
    "wanted:",
)
MAX_TOKENS = 320
MAX_ANSWER_TOKENS = 120
_PATCH_PX = 8
_NUM_IMAGE_TOKENS = 64
# Standard deviation of a score's soft label; the mean of those of 0 and 10 peaks between the two.
_SCORE_STD = 5.0
_NUM_SHOWN = 12

# Contents of the user turn in order, images as `<image>`; then the answer, ended by `</s>`.
CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% else %}{{ ' ?' }}{% endif %}"
    "{% endfor %}"
)


def build_judge(
    tokenizer: PreTrainedTokenizerFast,
    *,
    vision_width: int = 128,
    vision_layers: int = 5,
    width: int = 128,
    layers: int = 4,
) -> LlavaForConditionalGeneration:
    """Builds a LLaVA with a vision transformer of 8 px patches and a Llama of a few layers."""
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": vision_width // 32,
        "image_size": 64,
        "patch_size": _PATCH_PX,
        "projection_dim": vision_width,
    }
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        # Llama's default, 0.02, is for wide models: attention would hardly act in this one.
        "initializer_range": width**-0.5,
        "max_position_embeddings": MAX_TOKENS,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.encode("<image>", add_special_tokens=False)[0],
        image_seq_length=_NUM_IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.max_new_tokens = MAX_ANSWER_TOKENS
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Builds the processor with the chat template; images become 64 x 64, -1 to 1."""
    image_processor: CLIPImageProcessorPil = clip_image_processor()
    return LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=_PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeTrainingTask:
    """Training of the judge: next-token loss on the words and the scores of the answer.

    A batch holds edits with all of their pairs, which are similar to each other.

    Attributes:
        judge: model to train.
        processor: processor of prompts and images.
        train: training pairs with the images `source` and `edited`.
        test: test pairs with `source`, `edited`, instruction, answer and outcome.
        texts_nt: token ids of the training prompts and answers, int16, padded on the right.
        is_answer_nt: mask of the tokens that belong to an answer.
        answers: scores and labels of the answers' tokens.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    judge: Any
    processor: Any
    train: Cache
    test: Cache
    texts_nt: Tensor
    is_answer_nt: Tensor
    answers: AnswerTokens
    config: TrainingConfig
    name: str = "judge"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole model."""
        return {"judge": self.judge}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the cross-entropy of the words and the scores of answers on a batch of pairs."""
        num_edits = max(1, self.config.batch_size // PAIRS_AN_EDIT)
        edits = np.sort(context.rng.integers(len(self.train) // PAIRS_AN_EDIT, size=num_edits))
        pairs = (edits[:, None] * PAIRS_AN_EDIT + np.arange(PAIRS_AN_EDIT)).ravel()
        texts_nt = self.texts_nt[pairs]
        padding = int(self.processor.tokenizer.pad_token_id)
        longest = int((texts_nt != padding).any(dim=0).sum())
        batch = PairBatch(
            images=_pixels(self.train, pairs, context.device),
            tokens=texts_nt[:, :longest].long().to(context.device),
            is_answer=self.is_answer_nt[pairs, :longest].to(context.device),
        )
        return judge_loss(self.judge, batch, self.answers)

    def export(self, folder: Path) -> None:
        """Writes the model and its processor with the chat template."""
        save_fp16(self.judge, folder)
        self.processor.save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the ROC AUC of accuracy times preservation, true edits against all others."""
        indices = range(min(256, len(self.test)))
        answers = generate_answers(self.judge, self.processor, self.test, indices, device)
        truths = [self.test.texts[i]["outcome"] == "true" for i in indices]
        return {"auc": auc([edit_score(answer) for answer in answers], truths)}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test pairs: sources above, edited images below."""
        rows = [np.asarray(self.test.arrays[name][:_NUM_SHOWN]) for name in ("source", "edited")]
        return pictures.image_grid(rows)


def tokenize_answers(cache: Cache, processor: Any) -> tuple[Tensor, Tensor]:
    """Tokenizes prompts with their answers, int16 NT, and masks the answers, bool NT.

    Raises:
        ValueError: a prompt with its answer is longer than the judge's training takes.
    """
    ids = word_ids_of(processor.tokenizer)
    rows = [ids.judge(entry["instruction"], entry["answer"]) for entry in cache.texts]
    texts_nt = torch.from_numpy(np.stack([row.tokens for row in rows]))
    places = torch.arange(texts_nt.shape[1])
    starts, ends = torch.tensor([(row.answer_start, row.length) for row in rows]).T[..., None]
    return texts_nt, (places >= starts) & (places < ends)


def answer_tokens(tokenizer: Any, device: torch.device) -> AnswerTokens:
    """Returns the scores and the labels of the tokens of answers, on a device."""
    score_ids = torch.tensor(score_token_ids(tokenizer), device=device)
    return AnswerTokens(score_ids, label_smoothing(tokenizer).to(device))


def label_smoothing(tokenizer: Any) -> Tensor:
    """Returns the soft label of each true token, VV: each row is a distribution over the tokens.

    The label of a score is a discretized Gaussian around it; other labels are one-hot.
    """
    table_vv = torch.eye(len(tokenizer))
    values = torch.arange(11.0)
    falling = torch.exp(-0.5 * ((values[:, None] - values[None]) / _SCORE_STD) ** 2)
    tokens = torch.tensor(score_token_ids(tokenizer))
    table_vv[tokens[:, None], tokens[None]] = falling / falling.sum(-1, keepdim=True)
    return table_vv


def score_token_ids(tokenizer: Any) -> list[int]:
    """Returns the token ids of the scores 0 to 10."""
    return [tokenizer.encode(str(value), add_special_tokens=False)[0] for value in range(11)]


def user_turn(processor: Any, instruction: str) -> str:
    """Returns the chat template's text for a source image, an edited image and an instruction."""
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": instruction}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}]))


@torch.no_grad()
def generate_answers(
    judge: Any,
    processor: Any,
    pairs: Cache,
    indices: range,
    device: torch.device,
) -> list[str]:
    """Generates the judge's answers on some pairs of a cache."""
    tokenizer = processor.tokenizer
    answers: list[str] = []
    for start in range(indices.start, indices.stop, 64):
        batch = np.arange(start, min(start + 64, indices.stop))
        texts = [user_turn(processor, pairs.texts[i]["instruction"]) for i in batch]
        image = "<image>" * int(judge.config.image_seq_length)
        texts = [text.replace("<image>", image) for text in texts]
        encoded = tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        ).to(device)
        tokens = judge.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            pixel_values=_pixels(pairs, batch, device),
            max_new_tokens=MAX_ANSWER_TOKENS,
            do_sample=False,
        )
        new_tokens = tokens[:, encoded["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
    return answers


def parse_scores(answer: str) -> dict[str, int]:
    """Reads the scores of the factors that an answer names."""
    pairs = re.findall(r"(\w+): *(\d+)", answer)
    return {factor: int(score) for factor, score in pairs if factor in FACTORS}


def parse_descriptions(answer: str) -> tuple[str, str, str]:
    """Reads an answer's captions of source, edited and wanted image; empty where it has none."""
    match = re.match(r"before: (.*?) after: (.*?) wanted: (.*?) accuracy:", answer)
    return (match[1], match[2], match[3]) if match else ("", "", "")


def edit_score(answer: str) -> float:
    """Returns accuracy times preservation of an answer; 0 where it names neither."""
    scores = parse_scores(answer)
    return float(scores.get("accuracy", 0) * scores.get("preservation", 0))


def auc(values: Sequence[float], truths: Sequence[bool]) -> float:
    """Returns the ROC AUC: the probability that a true item ranks above a false one."""
    true = np.array([value for value, truth in zip(values, truths, strict=True) if truth])
    false = np.array([value for value, truth in zip(values, truths, strict=True) if not truth])
    if not len(true) or not len(false):
        return float("nan")
    difference = true[:, None] - false[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _pixels(pairs: Cache, indices: NDArray[np.int64], device: torch.device) -> Tensor:
    """Returns images (2n)3HW: source and edited image of the first pair, of the second, ..."""
    both = np.stack([pairs.arrays["source"][indices], pairs.arrays["edited"][indices]], axis=1)
    return pictures.to_tensor(both.reshape(-1, *both.shape[2:]), device)
