"""Best of several tries, against single fills that are made and compared one by one."""

import numpy as np
import pytest
from method_cases import make, pixels
from overpaint.operators.controls.best_of import seed_of_try
from overpaint.operators.mask import Mask
from overpaint.operators.models import clip
from overpaint.pipeline.images import decode_mask
from PIL import Image

NUM_TRIES = 3


def similarities(loaded, pictures, row):
    """The similarity of pictures to the target prompt, and to the source."""
    (text,) = clip.embed_texts(loaded, [row["target_prompt"]])
    source, *made = clip.embed_images(
        loaded,
        [Image.fromarray(p) for p in (pixels({"edited_image": row["source_image"]}), *pictures)],
    )
    return np.array([[clip.similarity(one, other) for other in (text, source)] for one in made])


def outcome(edit, rows):
    """The pictures of edits, without the feathered edge that pasting makes."""
    return [pixels(answer) for answer in edit.run(rows, edit.load())]


def single(checkpoint_of, rows, number, **fields):
    """Pictures of one fill for each row, with the seeds of a try."""
    seeded = [{**row, "seed": seed_of_try(row["seed"], number)} for row in rows]
    return outcome(make("inpaint", checkpoint_of, **fields), seeded)


def test_fill_is_the_single_fill_that_says_most_of_the_prompt(checkpoint_of, row):
    rows, plain = [row(number) for number in range(3)], {"mask_dilate_px": 0, "feather_px": 0}
    edit = make("mfl", checkpoint_of, num_candidates=NUM_TRIES, **plain)
    chosen = outcome(edit, rows)
    tries = [single(checkpoint_of, rows, number, **plain) for number in range(NUM_TRIES)]
    loaded = clip.load(edit.own.clip_weights)
    for place, made in enumerate(chosen):
        fills = [fill[place] for fill in tries]
        likeness = similarities(loaded, fills, rows[place])[:, 0]
        assert np.array_equal(made, fills[int(likeness.argmax())])
    assert len({fill.tobytes() for fill in (t[0] for t in tries)}) == NUM_TRIES


@pytest.mark.slow
def test_boxes_are_those_of_the_finder_and_the_best_of_their_fills_is_kept(checkpoint_of, row):
    rows, plain = [row(number) for number in range(3)], {"mask_dilate_px": 0, "feather_px": 0}
    bare = [{**each, "mask_image": None} for each in rows]
    edit = make("tdielr", checkpoint_of, num_candidates=NUM_TRIES, **plain)
    chosen = outcome(edit, bare)
    finder = Mask(method="proposals", dilate_px=0)
    tries = []
    for number in range(NUM_TRIES):
        found = finder.run([{**each, "candidate": number} for each in bare], finder.load())
        masked = [
            {**each, "mask_image": f["mask_image"]} for each, f in zip(bare, found, strict=True)
        ]
        tries.append((masked, single(checkpoint_of, masked, number, **plain)))
    loaded = clip.load(edit.own.clip_weights)
    for place, made in enumerate(chosen):
        fills = [fill[place] for _, fill in tries]
        scores = similarities(loaded, fills, rows[place]) @ [2.0, 1.0]
        best = int(scores.argmax())
        assert np.array_equal(made, fills[best])
        mask = decode_mask(tries[best][0][place]["mask_image"], *made.shape[1::-1])
        source = pixels({"edited_image": rows[place]["source_image"]})
        assert np.array_equal(made[mask == 0], source[mask == 0])
