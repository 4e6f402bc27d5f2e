import io

import numpy as np
import pytest
from overpaint.operators.framing import masks
from overpaint.operators.mask import Mask
from overpaint.operators.measures.phrases import changed_thing
from overpaint.pipeline.images import decode_mask
from overpaint.pipeline.operator import Rejected
from PIL import Image
from running import failure_code, outcomes
from shared_tokenizers import ODD_TEXTS, texts_around
from transformers import CLIPTokenizer


def answers(operator: Mask, rows: list[dict]) -> list:
    return outcomes(operator, rows)


def pixels(answer: dict, width: int = 48, height: int = 40) -> np.ndarray:
    return decode_mask(answer["mask_image"], width, height)


def phrase_row(source: bytes, phrase: str) -> dict:
    return {"source_image": source, "mask_phrase": phrase}


def test_clipseg_mask_has_the_size_of_its_source_and_two_values(clipseg, noise):
    source = noise(1, 75, 31)
    (answer,) = answers(Mask(checkpoint=clipseg), [phrase_row(source, "red")])
    image = Image.open(io.BytesIO(answer["mask_image"]))
    assert (image.mode, image.size) == ("L", (75, 31))
    assert set(np.unique(image)) <= {0, 255}
    assert answer["mask_area"] == pytest.approx(np.mean(np.asarray(image) == 255))
    assert answer["mask_source"] == "clipseg"


def test_clipseg_mask_does_not_depend_on_neighbours(clipseg, noise):
    operator = Mask(checkpoint=clipseg, batch_size=3)
    row = phrase_row(noise(1), "red")
    other = phrase_row(noise(2, 300, 20), "a much longer phrase with words")
    first = answers(operator, [row, other, phrase_row(noise(3), "sky")])
    again = answers(operator, [other, other, row])
    assert first[0] == again[2]
    assert first[1] == again[0]


def test_phrase_decides_the_mask(clipseg, noise):
    one, two = answers(
        Mask(checkpoint=clipseg), [phrase_row(noise(1), "red"), phrase_row(noise(1), "sky")]
    )
    assert one["mask_image"] != two["mask_image"]


def test_phrase_comes_from_mask_phrase_then_instruction_then_source_prompt(clipseg, noise):
    source = noise(1)
    expected = answers(Mask(checkpoint=clipseg), [phrase_row(source, "red circle")])[0]
    rows = [
        {"source_image": source, "mask_phrase": "red circle", "instruction": "remove the sky"},
        {"source_image": source, "instruction": "Make the red circle blue.", "source_prompt": "x"},
        {
            "source_image": source,
            "instruction": "turn it into winter",
            "source_prompt": "red circle",
        },
    ]
    assert [answer == expected for answer in answers(Mask(checkpoint=clipseg), rows)] == [True] * 3


def test_row_without_any_phrase_fails_with_a_code(clipseg, noise):
    row = {"source_image": noise(1), "instruction": "brighten"}
    assert failure_code(Mask(checkpoint=clipseg), row) == "mask_phrase_missing"


def test_chosen_phrase_column_becomes_an_input():
    assert [column.name for column in Mask(phrase_from="caption").inputs] == [
        "source_image",
        "caption",
    ]


def test_empty_mask_is_rejected(clipseg, noise):
    (answer,) = answers(Mask(checkpoint=clipseg, min_area=0.99), [phrase_row(noise(1), "red")])
    assert isinstance(answer, Rejected)
    assert answer.code == "mask_empty"


def test_dilation_grows_the_mask_at_the_source_size(clipseg, noise):
    rows = [phrase_row(noise(1), "red")]
    plain = pixels(answers(Mask(checkpoint=clipseg), rows)[0]) > 0
    grown = pixels(answers(Mask(checkpoint=clipseg, dilate_px=3), rows)[0]) > 0
    assert (grown == masks.dilate(plain, 3)).all()
    assert grown.sum() > plain.sum()


def test_inverted_mask_is_all_but_the_dilated_region(clipseg, noise):
    rows = [phrase_row(noise(1), "red")]
    region, others = (
        answers(Mask(checkpoint=clipseg, dilate_px=2, invert=invert), rows)[0]
        for invert in (False, True)
    )
    assert (pixels(others) == 255 - pixels(region)).all()
    assert others["mask_area"] == pytest.approx(1 - region["mask_area"])


@pytest.mark.parametrize(
    ("prompt", "source"),
    [
        ({"mask_box": [3, 4, 30, 20]}, "sam_box"),
        ({"mask_points": [[20, 12]]}, "sam_points"),
        ({"mask_points": [[20, 12], [2, 2, 0]]}, "sam_points"),
        ({"mask_box": [3, 4, 30, 20], "mask_points": [[20, 12]]}, "sam_box"),
    ],
)
def test_sam_cuts_out_what_a_prompt_selects(sam, noise, prompt, source):
    operator = Mask(method="sam", sam_checkpoint=sam)
    row = {"source_image": noise(1), **prompt}
    other = {"source_image": noise(2, 90, 30), **prompt}
    first = answers(operator, [row, other])
    again = answers(operator, [other, row])
    assert first == again[::-1]
    assert first[0]["mask_source"] == source
    assert pixels(first[0]).shape == (40, 48)


def test_sam_prompt_decides_the_mask_and_the_bucket(sam, noise):
    operator = Mask(method="sam", sam_checkpoint=sam)
    rows = [{"source_image": noise(1), "mask_box": box} for box in ([0, 0, 20, 9], [30, 9, 48, 40])]
    one, two = answers(operator, rows)
    assert one["mask_image"] != two["mask_image"]
    assert operator.bucket(rows[0]) == operator.bucket(rows[1])
    assert operator.bucket(rows[0]) != operator.bucket({"mask_points": [[1, 1]]})


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ({}, "mask_prompt_missing"),
        ({"mask_points": []}, "mask_prompt_missing"),
        ({"mask_box": [1, 2, 3]}, "mask_prompt_invalid"),
        ({"mask_box": [9, 2, 3, 4]}, "mask_prompt_invalid"),
        ({"mask_points": [[1]]}, "mask_prompt_invalid"),
    ],
)
def test_sam_without_a_usable_prompt_fails_with_a_code(sam, noise, prompt, code):
    operator = Mask(method="sam", sam_checkpoint=sam)
    row = {"source_image": noise(1), **prompt}
    operator.bucket(row)
    assert failure_code(operator, row) == code


def test_clipseg_sam_cuts_out_the_box_that_clipseg_found(clipseg, sam, noise):
    row = phrase_row(noise(1), "red")
    found = pixels(answers(Mask(checkpoint=clipseg, keep_largest=True), [row])[0]) > 0
    box = list(masks.bounding_box(found))
    both = Mask(method="clipseg_sam", checkpoint=clipseg, sam_checkpoint=sam, keep_largest=True)
    alone = Mask(method="sam", sam_checkpoint=sam, keep_largest=True)
    expected = answers(alone, [{"source_image": noise(1), "mask_box": box}])[0]
    assert answers(both, [row])[0]["mask_image"] == expected["mask_image"]


def test_clipseg_sam_row_without_a_region_is_rejected_and_its_neighbour_is_not(clipseg, sam, noise):
    black = noise(1)
    operator = Mask(method="clipseg_sam", checkpoint=clipseg, sam_checkpoint=sam)
    heats = operator.load()
    row = phrase_row(black, "red")
    kept = operator.run([row, row], heats)
    strict = Mask(**{**operator.model_dump(), "threshold": 0.999999})
    assert all(isinstance(answer, Rejected) for answer in strict.run([row, row], heats))
    assert not any(isinstance(answer, Rejected) for answer in kept)


def test_check_asks_only_for_the_models_of_the_finder(clipseg):
    Mask(checkpoint=clipseg).check()
    with pytest.raises(ValueError, match="sam_checkpoint is not used"):
        Mask(checkpoint=clipseg, sam_checkpoint="/nowhere")
    with pytest.raises(ValueError, match="sam_checkpoint = '/nowhere'"):
        Mask(checkpoint=clipseg, sam_checkpoint="/nowhere", method="clipseg_sam").check()
    assert set(Mask(checkpoint=clipseg).revisions()) == {"checkpoint"}


@pytest.mark.parametrize(
    ("instruction", "thing"),
    [
        ("make the red circle blue", "red circle"),
        ("Make the big red circle a bit brighter.", "big red circle"),
        ("make the man look like a statue", "man"),
        (
            "Remove both the cup of coffee and the pair of glasses",
            "cup of coffee and the pair of glasses",
        ),
        ("remove the dog from the picture", "dog"),
        ("Replace the llama toy with a floor lamp", "llama toy"),
        ("swap the star for a green square", "star"),
        ("change the colour of the car to red", "car"),
        ("Change the snowy mountain range to a tropical rainforest", "snowy mountain range"),
        ("Turn the chocolate cake into plastic one", "chocolate cake"),
        ("paint the star green", "star"),
        ("recolor the red star in blue", "red star"),
        ("give the star a striped pattern", "star"),
        ("move the red star to the left", "red star"),
        ("enlarge the ring", "ring"),
        ("show the house from the left", "house"),
        ("Let the horse run", "horse"),
        ("Add a red car on the deserted highway", "deserted highway"),
        ("Add a blue sofa in the center of the room", "room"),
        ("recolor the red flower to pink", "red flower"),
        ("make the background striped mint", "background"),
        ("put the red apple in the top right", "red apple"),
        ("show the person running", "person"),
        ("change the expression to sleepy", "face"),
        ("change the pose to standing", "person"),
        ("change the style to pixel art", None),
        ("change the view to the front", None),
        ("place a small red boat in the bottom left", None),
        ("Turn it into winter", None),
        ("make the picture a pencil sketch", None),
        ("add a red star", None),
        ("", None),
        ("brighten", None),
    ],
)
def test_changed_thing_is_what_an_instruction_names(instruction, thing):
    assert changed_thing(instruction) == thing


@pytest.mark.parametrize("method", ["clipseg", "clipseg_sam"])
def test_tokens_of_the_phrase_that_are_not_seen_are_counted(method, clipseg, sam, noise):
    tokens = CLIPTokenizer.from_pretrained(clipseg)
    seen = tokens.model_max_length
    phrases = [*texts_around(seen)[-15:], *ODD_TEXTS]
    fields = {"sam_checkpoint": sam} if method == "clipseg_sam" else {}
    operator = Mask(method=method, checkpoint=clipseg, batch_size=len(phrases), **fields)
    found = answers(operator, [phrase_row(noise(1), phrase) for phrase in phrases])
    lost = [max(0, len(tokens(phrase)["input_ids"]) - seen) for phrase in phrases]
    told = [getattr(answer, "code", None) or answer["mask_phrase_tokens_cut"] for answer in found]
    assert told == [
        code if code == "mask_empty" else cut for code, cut in zip(told, lost, strict=True)
    ]
    assert len(set(told) - {"mask_empty"}) > 3


def test_mask_without_a_phrase_has_no_such_column():
    assert "mask_phrase_tokens_cut" not in {o.name for o in Mask(method="sam").outputs}


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank_phrase_is_a_missing_one(blank, clipseg, noise):
    operator, source = Mask(checkpoint=clipseg), noise(1)
    wanted = answers(operator, [phrase_row(source, "red circle")])
    row = {"source_image": source, "mask_phrase": blank, "instruction": blank}
    assert answers(operator, [{**row, "source_prompt": "red circle"}]) == wanted
    assert failure_code(operator, {**row, "source_prompt": blank}) == "mask_phrase_missing"
