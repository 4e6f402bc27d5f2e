"""What captions say is what scenes show, in few words from a closed list."""

import pytest
from overpaint.jobs.papercut.sample import sample_scene
from overpaint.jobs.papercut.scene import Background, Scene, Thing
from overpaint.jobs.papercut.words import (
    LEXICON,
    MAX_WORDS,
    attributes,
    captions,
    count_words,
    phrase,
    position_of,
)

SCENES = [sample_scene(seed) for seed in range(300)]


def _words(text):
    return text.replace(",", " ").replace(".", " ").split()


def test_captions_use_only_the_lexicon_and_are_short():
    for scene in SCENES:
        for text in captions(scene):
            assert set(_words(text)) <= LEXICON
            assert count_words(text) <= MAX_WORDS


def test_captions_are_several_and_distinct_with_the_longest_words_first():
    for scene in SCENES:
        texts = captions(scene)
        assert len(set(texts)) == len(texts) >= 2
        assert count_words(texts[0]) >= count_words(texts[-1])


def test_first_caption_names_every_attribute():
    synonyms = {"sky": "cloudy", "night": "starry", "sketch": "pencil", "pixelated": "pixel"}
    for scene in SCENES:
        first = _words(captions(scene)[0])
        for attribute in attributes(scene):
            for word in attribute.value.split():
                if attribute.name == "style" and word == "night":
                    word = "moonlit"
                assert word in first or synonyms.get(word) in first, (first, attribute)


def test_phrase_tells_the_things_of_a_scene_apart():
    for scene in SCENES:
        names = [phrase(scene, index) for index in range(len(scene.things))]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("x", "y", "position"), [(12, 12, "top left"), (32, 32, "centre"), (50, 32, "right")]
)
def test_position_of_names_the_ninth_of_the_picture(x, y, position):
    thing = Thing(kind="star", colour="orange", x_px=x, y_px=y, radius_px=10)
    assert position_of(thing) == position


def test_caption_of_a_known_scene_reads_as_written():
    thing = Thing(kind="star", colour="orange", texture="dotted", x_px=14, y_px=14, radius_px=11)
    ground = Background(kind="striped", tint="mint")
    scene = Scene(background=ground, things=(thing,), style="sketch")
    assert captions(scene)[0] == (
        "a pencil sketch of a small dotted orange star in the top left on a striped mint background"
    )
    assert captions(Scene(background=ground))[0] == "nothing on a striped mint background"
