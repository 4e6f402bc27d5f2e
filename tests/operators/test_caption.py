import pytest
from overpaint.operators.caption import Caption
from running import outcomes


def captions(operator: Caption, sources: list[bytes]) -> list[str]:
    answers = outcomes(operator, [{"source_image": source} for source in sources])
    return [answer["caption"] for answer in answers]


def test_caption_of_a_row_does_not_depend_on_its_neighbours(captioner, noise):
    operator = Caption(checkpoint=captioner, batch_size=3, max_new_tokens=12)
    first = captions(operator, [noise(1), noise(2), noise(3)])
    again = captions(operator, [noise(2), noise(2), noise(4, 200, 90)])
    assert first[1] == again[0] == again[1]
    assert len(set(first)) > 1


def test_caption_begins_with_the_prompt(captioner, noise):
    operator = Caption(checkpoint=captioner, prompt="a photo of", max_new_tokens=6)
    assert captions(operator, [noise(1)])[0].startswith("a photo of")


@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_caption_that_would_not_end_stops_at_the_models_last_place(captioner, noise, prompt):
    operator = Caption(checkpoint=captioner, prompt=prompt, max_new_tokens=500)
    assert captions(operator, [noise(1)])


def test_revisions_hold_the_digest_of_a_folder(captioner):
    assert len(Caption(checkpoint=captioner).revisions()["checkpoint"]) == 16


def test_check_names_the_field_of_a_missing_folder():
    with pytest.raises(ValueError, match="checkpoint = '/nowhere/blip'"):
        Caption(checkpoint="/nowhere/blip").check()
