"""Prompts around and beyond what a text encoder sees, beside the tokenizer called directly."""

import json

import pytest
from method_cases import BATCH, EACH_PIPELINE, STEPS, make, ready, stages_before
from overpaint.operators.edit import Edit
from overpaint.operators.methods import METHODS
from overpaint.operators.methods.sdedit import SDEdit
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.identity import operator_fingerprint
from shared_tokenizers import ODD_TEXTS, in_threads, texts_around

SEEN = 16
"""Tokens that the text encoders of the tiny checkpoints see."""
T5_SEEN = 512
CLIP_SEEN = 32
"""Tokens that papercut's CLIP sees, which alone reads the words of Blended Diffusion."""
BLANKS = ["", " ", "\t\r\n", "\u00a0\u3000", " " * 500]


def direct(folder, subfolder="tokenizer"):
    """A tokenizer as transformers loads it, with nothing of Overpaint's."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(f"{folder}/{subfolder}")


def lost(tokens, text, seen=None):
    """The number of tokens that truncation loses."""
    seen = seen or tokens.model_max_length
    whole = tokens(text)["input_ids"]
    return len(whole) - len(tokens(text, truncation=True, max_length=seen)["input_ids"])


def words(num_tokens):
    """A prompt of as many tokens, with those that begin and end it."""
    return " ".join("abcdefg"[i % 7] for i in range(num_tokens - 2))


def cuts(operator, rows, model=None):
    """What an edit writes of each row: the tokens that were cut, or an error code."""
    model = model or operator.load()
    answers = []
    for start in range(0, len(rows), BATCH):
        answers += operator.run(rows[start : start + BATCH], model)
    return [getattr(a, "code", None) or a["prompt_tokens_cut"] for a in answers]


@pytest.mark.parametrize("case", ["sdedit", "sdedit-StableDiffusionXLPipeline", "instruct_pix2pix"])
def test_tokens_that_are_cut_are_those_that_truncation_loses(case, checkpoint_of, row):
    operator = make(case, checkpoint_of, num_inference_steps=2)
    prompts = [*texts_around(SEEN), *ODD_TEXTS]
    assert len(prompts) > 40
    tokens = direct(operator.checkpoint)
    rows = [row(0, target_prompt=prompt, instruction=prompt) for prompt in prompts]
    expected = [lost(tokens, prompt) for prompt in prompts]
    assert cuts(operator, rows) == expected
    assert min(expected) == 0
    assert max(expected) > 100


@pytest.mark.parametrize("part", ["text_to_image", "instruction"])
def test_tokens_that_papercut_cuts_are_those_that_truncation_loses(part, row):
    operator = Edit(method="sdedit" if part == "text_to_image" else "instruct_pix2pix")
    tokens, model = direct(Checkpoint(name="papercut", part=part).path), operator.load()
    for prompt in (*texts_around(tokens.model_max_length), *ODD_TEXTS):
        given = row(0, target_prompt=prompt, instruction=prompt)
        assert operator.prepare(given, model).tokens_cut == lost(tokens, prompt)


def test_kontext_counts_by_the_encoder_that_carries_the_prompt(checkpoint_of, row):
    operator = make("kontext", checkpoint_of)
    tokens = direct(operator.checkpoint, "tokenizer_2")
    prompts = [words(n) for n in (SEEN + 9, T5_SEEN - 1, T5_SEEN, T5_SEEN + 1, T5_SEEN + 40)]
    expected = [lost(tokens, prompt, T5_SEEN) for prompt in prompts]
    assert expected == [0, 0, 0, 1, 40]
    model = operator.load()
    assert [
        operator.prepare(row(0, instruction=prompt), model).tokens_cut for prompt in prompts
    ] == expected


def saying(prompt, text):
    """The columns in which a row says a text, by the column that its method reads."""
    if prompt is None:
        return {"edit_concepts": [{"prompt": text}, {"prompt": "a", "reverse": True}]}
    return dict.fromkeys({"target_prompt", "instruction", prompt.name}, text)


TEMPLATES = ("transformer", "-Flux2KleinPipeline", "-QwenImagePipeline")
OF_ONE_LENGTH = [
    case for case in EACH_PIPELINE if not any(name in case.values[0] for name in TEMPLATES)
]
"""Cases but for transformer editors, whose templates and encoders have lengths of their own."""


@pytest.mark.parametrize("case", OF_ONE_LENGTH)
def test_every_method_counts_and_can_refuse_before_its_model_runs(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    others = {"kontext": T5_SEEN, "blended_diffusion": CLIP_SEEN}
    seen = T5_SEEN if "-FluxPipeline" in case else others.get(case.partition("-")[0], SEEN)
    fits, long = (saying(operator.own.prompt, words(seen + more)) for more in (0, 3))
    rows = ready(operator, [row(0, **fits), row(0, **long)])
    model = operator.load()
    assert cuts(operator, rows, model) == [0, 3]
    refusing = operator.model_copy(update={"long_prompt": "fail"})
    before = model[""].spent
    (answer,) = refusing.run(rows[1:], model)
    assert answer.code == "prompt_too_long"
    assert f"has {seen + 3} tokens, and the text encoder sees {seen}" in answer.message
    assert model[""].spent == before
    assert cuts(refusing, rows, model) == [0, "prompt_too_long"]


def test_longest_prompt_of_a_row_counts_whichever_it_is(checkpoint_of, row):
    long, longer = words(SEEN + 2), words(SEEN + 5)
    for target, negative, expected in (
        (long, "", 2),
        (long, longer, 5),
        ("a", long, 2),
        (longer, long, 5),
        ("a", "b", 0),
    ):
        operator = make("sdedit", checkpoint_of, negative_prompt=negative)
        assert cuts(operator, [row(0, target_prompt=target)]) == [expected]
    unguided = make("sdedit", checkpoint_of, negative_prompt=longer, guidance_scale=1.0)
    assert cuts(unguided, [row(0, target_prompt=long)]) == [2], "nothing reads the negative prompt"


@pytest.mark.parametrize(
    "method", [name for name in METHODS.names() if "inverted_path" in str(METHODS.find(name).needs)]
)
def test_prompt_of_the_inversion_counts_for_its_edit(method, checkpoint_of, row):
    operator = make(method, checkpoint_of)
    rows = ready(operator, [row(0, source_prompt=words(SEEN + 4)), row(1)])
    assert cuts(operator, rows) == [4, 0]
    refusing = operator.model_copy(update={"long_prompt": "fail"})
    assert cuts(refusing, rows) == ["prompt_too_long", 0]


def test_inversion_can_refuse_a_long_source_prompt_before_its_model_runs(checkpoint_of, row):
    (invert, *_) = stages_before(make("ddim", checkpoint_of), long_prompt="fail")
    model = invert.load()
    rows = [row(0, source_prompt=words(SEEN)), row(1, source_prompt=words(SEEN + 1))]
    before = model.spent
    (answer,) = invert.run(rows[1:], model)
    assert (answer.code, model.spent) == ("prompt_too_long", before)
    first, second = invert.run(rows, model)
    assert "inverted_path" in first
    assert second.code == "prompt_too_long"


def test_own_settings_of_a_row_count(checkpoint_of, row):
    own = json.dumps({"negative_prompt": words(SEEN + 6)})
    rows = [row(0), row(0, edit_params=own)]
    assert cuts(make("sdedit", checkpoint_of), rows) == [0, 6]


class Uncounted(SDEdit):
    """SDEdit on a model whose text encoder is not known."""

    def text_length(self, text, model):
        """Returns nothing."""


def test_method_that_cannot_count_leaves_the_column_null(checkpoint_of, row):
    settings = Uncounted(num_inference_steps=STEPS, resolution=32)
    checkpoint = checkpoint_of("StableDiffusionPipeline")
    operator = Edit(settings=settings, checkpoint=checkpoint, batch_size=BATCH, long_prompt="fail")
    assert cuts(operator, [row(0, target_prompt=words(SEEN + 5))]) == [None]


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("case", ["sdedit", "instruct_pix2pix", "kontext", "prompt_to_prompt"])
def test_blank_prompt_is_missing(case, blank, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    rows = ready(operator, [row(0, target_prompt=blank, instruction=blank), row(1)])
    assert cuts(operator, rows) == ["prompt_missing", 0]


@pytest.mark.parametrize("blank", BLANKS)
def test_blank_source_prompt_leaves_the_inversion_to_the_caption(blank, checkpoint_of, row):
    (invert,) = stages_before(make("ddim", checkpoint_of))
    model = invert.load()
    given = [
        row(0, source_prompt=blank, caption="a b"),
        row(0, source_prompt=blank, caption=blank),
        row(0, source_prompt=None, caption=None),
    ]
    assert [a["inverted_path"].prompt for a in invert.run(given, model)] == ["a b", "", ""]


def test_long_prompt_decides_no_pixel_and_no_key(checkpoint_of, row):
    choices = {"sdedit": {"num_inference_steps": 2}, "strong": {"method": "sdedit"}}
    for fields in ({"method": "sdedit"}, {"choices": choices}):
        prints = {
            operator_fingerprint(Edit(**fields, long_prompt=word)) for word in ("cut", "fail")
        }
        assert len(prints) == 1
    cut, fail = (make("sdedit", checkpoint_of, long_prompt=word) for word in ("cut", "fail"))
    model = cut.load()
    assert cut.run([row(0)], model) == fail.run([row(0)], model)


def test_choices_share_what_the_stage_says_of_long_prompts(checkpoint_of, row):
    sdedit = {"method": "sdedit", "num_inference_steps": STEPS, "resolution": 32}
    operator = Edit(
        batch_size=BATCH,
        checkpoint=checkpoint_of("StableDiffusionPipeline"),
        long_prompt="fail",
        choices={"strict": sdedit, "lenient": {**sdedit, "long_prompt": "cut"}},
    )
    long = words(SEEN + 1)
    rows = [row(0, target_prompt=long, in_method=name) for name in ("strict", "lenient")]
    assert [cuts(operator, [one]) for one in rows] == [["prompt_too_long"], [1]]


@pytest.mark.parametrize("case", ["sdedit-StableDiffusionXLPipeline", "kontext"])
def test_rows_are_prepared_in_eight_threads_as_in_one(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    model = operator.load()
    seen = T5_SEEN if case == "kontext" else SEEN
    prompts = [words(seen + more) for more in range(-3, 9)]
    rows = [row(0, target_prompt=prompt, instruction=prompt) for prompt in prompts]

    def cut_beside_the_model(given):
        prompt = given["instruction"]
        embed = getattr(model[""], "embed", None)
        if embed is not None:  # diffusers calls the same tokenizers, with settings of its own
            embed(prompt[:9])
            model[""].prompts.clear()
        return operator.prepare(given, model).tokens_cut

    expected = [max(0, more) for more in range(-3, 9)]
    assert in_threads(cut_beside_the_model, rows) == [expected] * 8
