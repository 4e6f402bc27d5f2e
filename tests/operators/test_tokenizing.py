"""Tokenizers that threads share: every call gets what it gets alone."""

import copy

import numpy as np
import pytest
from overpaint.operators.caption import Caption
from overpaint.operators.judge import Judge
from overpaint.operators.mask import Mask
from overpaint.operators.models.tokenizing import one_call_at_a_time, text_length
from overpaint.operators.models.weights import Checkpoint
from overpaint.operators.score import Score
from shared_tokenizers import ODD_TEXTS, in_threads, texts_around

TEXTS = [*texts_around(40), *ODD_TEXTS]


@pytest.fixture(scope="module")
def papercut():
    """Makes a papercut tokenizer, with nothing done to it."""
    from transformers import CLIPTokenizer

    folder = Checkpoint(name="papercut", part="text_to_image").path
    return lambda: CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")


def calls_of(tokenizer):
    """Every kind of call, each with settings of its own, on a text and a length."""

    def calls(given):
        place, text = given
        length = 8 + place % 5
        padded = tokenizer(text, padding="max_length", truncation=True, max_length=length)
        return (
            text_length(tokenizer, text),
            padded["input_ids"],
            tokenizer([text, "a"], padding=True)["input_ids"],
            tokenizer.decode(padded["input_ids"], skip_special_tokens=True),
            tokenizer.batch_decode([padded["input_ids"]]),
        )

    return calls


def test_one_tokenizer_answers_eight_threads_as_it_answers_one(papercut):
    given = list(enumerate(TEXTS))
    alone = [calls_of(papercut())(one) for one in given]
    shared = one_call_at_a_time(papercut())
    assert in_threads(calls_of(shared), given) == [alone] * 8


def test_tokenizer_stays_what_it_is(papercut):
    plain, shared = papercut(), one_call_at_a_time(papercut())
    assert isinstance(shared, type(plain))
    assert type(shared).__name__ == type(plain).__name__
    assert len(shared) == len(plain)
    assert copy.deepcopy(shared)("a circle")["input_ids"] == plain("a circle")["input_ids"]


def _operators(captioner, clip, clipseg, judge):
    return {
        "caption": Caption(checkpoint=captioner),
        "score": Score(checkpoint=clip),
        "mask": Mask(checkpoint=clipseg),
        "judge": Judge(checkpoint=judge),
    }


@pytest.mark.parametrize("name", ["caption", "score", "mask", "judge"])
def test_tokenizer_of_an_operator_can_be_shared(name, captioner, clip, clipseg, judge):
    tokenizer = _operators(captioner, clip, clipseg, judge)[name].load().processor.tokenizer
    given = list(enumerate(texts_around(20)))
    alone = [calls_of(tokenizer)(one) for one in given]
    assert in_threads(calls_of(tokenizer), given) == [alone] * 8


def test_judge_prepares_rows_in_eight_threads_as_in_one(judge, noise):
    operator = Judge(checkpoint=judge, max_prompt_tokens=40, prompt="{instruction}")
    model = operator.load()
    pictures = {"source_image": noise(1), "edited_image": noise(2)}
    rows = [{**pictures, "instruction": "make it " + "red " * number} for number in range(8)]

    def prepared(row):
        (tokens,) = operator.prepare(row, model).questions
        return {name: np.asarray(value).tolist() for name, value in tokens.items()}

    assert in_threads(prepared, rows) == [[prepared(row) for row in rows]] * 8


@pytest.mark.parametrize("limit", [3, 16, 77, 512])
def test_text_of_exactly_the_limit_is_not_cut(limit, papercut):
    tokenizer = papercut()
    texts = [" ".join("a" * (limit - 2 + more)) for more in (-1, 0, 1, 5)]
    assert [text_length(tokenizer, text, limit).num_cut for text in texts] == [0, 0, 1, 5]
