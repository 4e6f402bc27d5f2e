"""The `judge` checkpoint: a small LLaVA that sees source and edited image and answers in words.

It says what both images show, as EditEval lets a judge describe an edit before it scores it, and
what the instruction makes of the first, so that words can be compared with words. Then come the
four factors, 0 to 10: does the edit do what the instruction says (accuracy), is the rest as it was
(preservation), is the image clean (quality), does it look like one of the world's pictures
(realism). The words explain the scores, and teach the model to look: scores alone did not.

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
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.pairs import PAIRS_AN_EDIT
from overpaint.jobs.training.saving import save_fp16
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
_WORD_CORRUPTION_SHARE = 0.02
# Spread so widely, right and wrong scores differ by a tenth of a nat: words would drown them.
_SCORE_WEIGHT = 10.0
# Wide enough that the average of a 0 and a 10 has its peak between them.
_SPREAD = 5.0
_NUM_SHOWN = 12

# Each part of a user's turn in order, images as `<image>`; then the answer, ended by `</s>`.
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
    """LLaVA: a vision transformer on 8 px patches, like clip's, and a Llama of a few layers."""
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
        # Llama's own 0.02 is for wide models: attention would move next to nothing in this one.
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
    """Processor with the chat template; images become 64 x 64 in -1 to 1."""
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
    """The judge in training: next-word loss on the words and the scores of the answer.

    A score's neighbours count as partly right, so widely that a judge which can't tell a good edit
    from a bad one answers with the middle, and its words rank edits by how sure it is. In half of
    the answers that it goes on from, the scores and some of the words are others: it shall lean on
    the images too, and no score on those before. A batch holds edits with all of their pairs, so
    that likes are told apart.

    `train` and `test` hold `source`, `edited`, the instruction, the answer and the outcome;
    `texts_nt` has the tokens of prompts and answers, `is_answer_nt` says which are an answer's,
    `rightness_vv` how right each token is in place of another.
    """

    judge: Any
    processor: Any
    train: Cache
    test: Cache
    texts_nt: Tensor
    is_answer_nt: Tensor
    soft_labels_vv: Tensor
    config: TrainingConfig
    name: str = "judge"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole model."""
        return {"judge": self.judge}

    def loss(self, context: StepContext) -> Tensor:
        """Cross-entropy of an answer's words, and of its scores, on a batch of pairs."""
        num_edits = max(1, self.config.batch_size // PAIRS_AN_EDIT)
        edits = np.sort(context.rng.integers(len(self.train) // PAIRS_AN_EDIT, size=num_edits))
        picks = (edits[:, None] * PAIRS_AN_EDIT + np.arange(PAIRS_AN_EDIT)).ravel()
        padding = int(self.processor.tokenizer.pad_token_id)
        longest = int((self.texts_nt[picks] != padding).any(dim=0).sum())
        tokens_nt = self.texts_nt[picks, :longest].to(context.device)
        is_answer_nt = self.is_answer_nt[picks, :longest].to(context.device)
        logits = self.judge(
            input_ids=self._corrupted(tokens_nt, is_answer_nt, context),
            attention_mask=(tokens_nt != padding).long(),
            pixel_values=_pixels(self.train, picks, context.device),
        ).logits
        expected = tokens_nt[:, 1:][is_answer_nt[:, 1:]]
        guesses = logits[:, :-1][is_answer_nt[:, 1:]].float().log_softmax(-1)
        wrongness = -(self.soft_labels_vv[expected] * guesses).sum(-1)
        is_score = torch.isin(expected, self._score_ids(context.device))
        return wrongness[~is_score].mean() + _SCORE_WEIGHT * wrongness[is_score].mean()

    def _corrupted(self, tokens_nt: Tensor, is_answer_nt: Tensor, context: StepContext) -> Tensor:
        """The tokens, with chance scores and some chance words in half of the answers."""
        parse_scores = self._score_ids(tokens_nt.device)
        is_score_nt = torch.isin(tokens_nt, parse_scores) & is_answer_nt
        words = tokens_nt[is_answer_nt & ~is_score_nt]
        dice = torch.from_numpy(context.rng.random((3, *tokens_nt.shape))).to(tokens_nt.device)
        is_other_nt = is_answer_nt & (dice[0, :, :1] < 0.5)
        chance_scores = parse_scores[(dice[1] * len(parse_scores)).long()]
        chance_words = words[(dice[1] * len(words)).long()]
        is_word_nt = is_other_nt & ~is_score_nt & (dice[2] < _WORD_CORRUPTION_SHARE)
        heard_nt = torch.where(is_other_nt & is_score_nt, chance_scores, tokens_nt)
        return torch.where(is_word_nt, chance_words, heard_nt)

    def _score_ids(self, device: torch.device) -> Tensor:
        return torch.tensor(score_token_ids(self.processor.tokenizer), device=device)

    def export(self, folder: Path) -> None:
        """Write the model and its processor with the chat template."""
        save_fp16(self.judge, folder)
        self.processor.save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """AUC of accuracy times preservation, true edits against all that are not."""
        which = range(min(256, len(self.test)))
        answers = generate_answers(self.judge, self.processor, self.test, which, device)
        truths = [self.test.texts[i]["outcome"] == "true" for i in which]
        return {"auc": auc([edit_score(answer) for answer in answers], truths)}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen pairs: sources above, edited images below."""
        rows = [np.asarray(self.test.arrays[name][:_NUM_SHOWN]) for name in ("source", "edited")]
        return pictures.image_grid(rows)


def tokenize_answers(cache: Cache, processor: Any) -> tuple[Tensor, Tensor]:
    """Tokens NT of prompts with their answers, padded on the right; which are an answer's."""
    tokenizer = processor.tokenizer
    prompts = [user_turn(processor, entry["instruction"]) for entry in cache.texts]
    prompts = [text.replace("<image>", "<image>" * _NUM_IMAGE_TOKENS) for text in prompts]
    answers = [f" {entry['answer']}</s>" for entry in cache.texts]
    asked = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    said = tokenizer(answers, add_special_tokens=False)["input_ids"]
    longest = max(len(a) + len(b) for a, b in zip(asked, said, strict=True))
    texts_nt = torch.full((len(asked), longest), int(tokenizer.pad_token_id))
    is_answer_nt = torch.zeros((len(asked), longest), dtype=torch.bool)
    for i, (question, answer) in enumerate(zip(asked, said, strict=True)):
        end = len(question) + len(answer)
        texts_nt[i, :end] = torch.tensor(question + answer)
        is_answer_nt[i, len(question) : end] = True
    return texts_nt, is_answer_nt


def label_smoothing(tokenizer: Any) -> Tensor:
    """Rows that sum to 1: how right each token is where another one, the row's, is expected.

    A score is right to a degree that falls with the distance, other tokens are right or wrong.
    """
    table_vv = torch.eye(len(tokenizer))
    values = torch.arange(11.0)
    falling = torch.exp(-0.5 * ((values[:, None] - values[None]) / _SPREAD) ** 2)
    tokens = torch.tensor(score_token_ids(tokenizer))
    table_vv[tokens[:, None], tokens[None]] = falling / falling.sum(-1, keepdim=True)
    return table_vv


def score_token_ids(tokenizer: Any) -> list[int]:
    """The tokens of the scores 0 to 10."""
    return [tokenizer.encode(str(value), add_special_tokens=False)[0] for value in range(11)]


def user_turn(processor: Any, instruction: str) -> str:
    """The chat template's text for a source image, an edited image and an instruction."""
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": instruction}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}]))


@torch.no_grad()
def generate_answers(
    judge: Any,
    processor: Any,
    pairs: Cache,
    which: range,
    device: torch.device,
) -> list[str]:
    """The judge's answers on some pairs of a cache."""
    tokenizer = processor.tokenizer
    answers: list[str] = []
    for start in range(which.start, which.stop, 64):
        picks = np.arange(start, min(start + 64, which.stop))
        texts = [user_turn(processor, pairs.texts[i]["instruction"]) for i in picks]
        image = "<image>" * int(judge.config.image_seq_length)
        texts = [text.replace("<image>", image) for text in texts]
        encoded = tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        ).to(device)
        made = judge.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            pixel_values=_pixels(pairs, picks, device),
            max_new_tokens=MAX_ANSWER_TOKENS,
            do_sample=False,
        )
        fresh = made[:, encoded["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(fresh, skip_special_tokens=True)
    return answers


def parse_scores(answer: str) -> dict[str, int]:
    """The factors that an answer names, with their scores."""
    found = re.findall(r"(\w+): *(\d+)", answer)
    return {factor: int(score) for factor, score in found if factor in FACTORS}


def parse_descriptions(answer: str) -> tuple[str, str, str]:
    """What an answer says of source, edited and wanted image; empty where it says nothing."""
    found = re.match(r"before: (.*?) after: (.*?) wanted: (.*?) accuracy:", answer)
    return (found[1], found[2], found[3]) if found else ("", "", "")


def edit_score(answer: str) -> float:
    """Accuracy times preservation of an answer; 0 where it names neither."""
    named = parse_scores(answer)
    return float(named.get("accuracy", 0) * named.get("preservation", 0))


def auc(values: Sequence[float], truths: Sequence[bool]) -> float:
    """Chance that a true one has a higher value than a false one; a tie counts half."""
    true = np.array([value for value, truth in zip(values, truths, strict=True) if truth])
    false = np.array([value for value, truth in zip(values, truths, strict=True) if not truth])
    if not len(true) or not len(false):
        return float("nan")
    above = true[:, None] - false[None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def _pixels(pairs: Cache, picks: NDArray[np.int64], device: torch.device) -> Tensor:
    """Images (2n)3HW: source and edited of the first pair, of the second, ..."""
    both = np.stack([pairs.arrays["source"][picks], pairs.arrays["edited"][picks]], axis=1)
    return pictures.to_tensor(both.reshape(-1, *both.shape[2:]), device)
