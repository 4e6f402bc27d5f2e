import io

import numpy as np
import pytest
from overpaint.operators.negative import Negative
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from PIL import Image
from running import failure_code, outcomes


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
def test_negative_is_in_the_runs_format_and_of_the_sources_size(noise, image_format):
    (answer,) = outcomes(Negative(), [{"source_image": noise(1), "image_format": image_format}])
    image = Image.open(io.BytesIO(answer["edited_image"]))
    assert image.format == {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}[image_format]
    assert image.size == (48, 40)
    if image_format == "png":
        assert np.array_equal(np.asarray(image), 255 - decode(noise(1)).rgb)


def test_negative_keeps_transparency(noise):
    alpha = np.arange(48 * 40, dtype=np.uint8).reshape(40, 48)
    source = encode(Picture(decode(noise(1)).rgb, alpha))
    (answer,) = outcomes(Negative(), [{"source_image": source, "image_format": "png"}])
    assert np.array_equal(decode(answer["edited_image"]).alpha, alpha)


def test_negative_of_a_broken_source_fails_alone(noise):
    broken = {"source_image": b"no image", "image_format": "png"}
    whole = {"source_image": noise(1), "image_format": "png"}
    failed, answer = outcomes(Negative(), [broken, whole])
    assert failed.code == failure_code(Negative(), broken) == "image_unreadable"
    assert set(answer) == {"edited_image"}


def test_negative_alone_is_a_plan():
    plan = Plan(name="smallest", stages=(Stage(operator=Negative()),))
    assert [stage.name for stage in plan.stages] == ["fetch", "negative", "store"]
    assert (
        plan.fingerprint()
        == Plan(
            name="slow", stages=(Stage(operator=Negative(batch_ms=5, batch_size=2)),)
        ).fingerprint()
    )
