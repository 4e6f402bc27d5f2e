"""Masks that cannot mean what they seem to: refused, with a code and the reason."""

import io

import numpy as np
import pytest
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode_mask, decode_weights
from PIL import Image
from png_files import png

WIDTH, HEIGHT = 96, 64
REGION = np.zeros((HEIGHT, WIDTH), np.uint8)
REGION[8:28, 60:90] = 255
DRAWN = Image.fromarray(REGION)
PHOTO = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def refused(data, width=WIDTH, height=HEIGHT, **options):
    with pytest.raises(RowError) as caught:
        decode_mask(data, width, height, **options)
    return caught.value


def with_alpha(image, alpha):
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    return encoded(image)


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_mask_of_one_colour_is_its_alpha(colour):
    data = with_alpha(Image.new("RGB", (WIDTH, HEIGHT), colour), REGION)
    np.testing.assert_array_equal(decode_mask(data, WIDTH, HEIGHT), REGION)


@pytest.mark.parametrize("hidden", ["black", "white", "blue"])
@pytest.mark.parametrize("shown", ["white", "red"])
def test_mask_with_hidden_colours_is_its_alpha_or_refused(hidden, shown):
    image = Image.new("RGB", (WIDTH, HEIGHT), hidden)
    image.paste(shown, mask=DRAWN)
    data = with_alpha(image, REGION)
    if hidden == "white" and shown == "red":
        assert refused(data).code == "mask_ambiguous"
    else:
        np.testing.assert_array_equal(decode_mask(data, WIDTH, HEIGHT) >= 128, REGION >= 128)


def test_mask_whose_alpha_is_the_same_all_over_is_its_colours():
    for value in (0, 100, 255):
        data = with_alpha(DRAWN, np.full_like(REGION, value))
        np.testing.assert_array_equal(decode_mask(data, WIDTH, HEIGHT), REGION)


@pytest.mark.parametrize("read", [decode_weights, lambda data: decode_mask(data, WIDTH, HEIGHT)])
def test_mask_in_the_alpha_of_a_photo_is_ambiguous(read):
    with pytest.raises(RowError, match=r"colours mark \d+\.\d% .* alpha channel 9\.8%") as caught:
        read(with_alpha(PHOTO, REGION))
    assert caught.value.code == "mask_ambiguous"


def test_mask_with_soft_edges_in_colours_and_alpha_is_not_ambiguous():
    soft = np.asarray(DRAWN.resize((24, 16)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    data = with_alpha(Image.fromarray(soft), soft)
    np.testing.assert_array_equal(decode_mask(data, WIDTH, HEIGHT), soft)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2, 3.2])
def test_mask_of_the_sources_proportions_is_scaled(scale):
    size = (round(WIDTH * scale), round(HEIGHT * scale))
    found = decode_mask(encoded(DRAWN.resize(size, Image.Resampling.NEAREST)), WIDTH, HEIGHT)
    assert (found != REGION).mean() < 0.03


@pytest.mark.parametrize(
    ("size", "source"),
    [
        ((125, 83), (1000, 667)),
        ((125, 84), (1000, 667)),
        ((96, 65), (96, 64)),
        ((16, 10), (96, 64)),
    ],
)
def test_mask_may_be_off_by_less_than_a_pixel(size, source):
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    assert decode_mask(encoded(mask), *source).shape == source[::-1]


@pytest.mark.parametrize(
    "size", [(64, 64), (96, 96), (96, 70), (90, 64), (1, 1), (2, 2), (1, 64), (512, 512), (30, 21)]
)
def test_mask_of_other_proportions_is_refused(size):
    mask = Image.new("L", size, 255)
    error = refused(encoded(mask))
    assert error.code == "mask_size"
    assert f"{size[0]}x{size[1]} px" in error.message
    assert "96x64 px" in error.message


def test_mask_of_the_stored_size_of_a_turned_source_is_refused_with_the_way_out():
    turned = encoded(DRAWN.transpose(Image.Transpose.ROTATE_90))
    assert "turned by 90 degrees it would fit" in refused(turned).message
    assert "as that is stored, on its side" in refused(turned, is_turned=True).message


def test_white_mask_is_one_of_the_whole_or_a_cut_out():
    for size in ((96, 64), (48, 32), (24, 16), (192, 128)):
        assert decode_mask(encoded(Image.new("L", size, 255)), WIDTH, HEIGHT).min() == 255
    assert decode_mask(encoded(Image.new("L", (1, 1), 255)), 64, 64).min() == 255
    error = refused(encoded(Image.new("L", (30, 20), 255)))
    assert (error.code, "all white" in error.message) == ("mask_size", True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(Image.fromarray(np.where(REGION > 0, 2, 0).astype(np.uint8))), "2 of 255"),
        (encoded(Image.fromarray(np.where(REGION > 0, 127, 1).astype(np.uint8))), "127 of 255"),
        (png(np.where(REGION > 0, 5, 0), 16), "5 of 65535"),
        (encoded(Image.fromarray(np.where(REGION > 0, 3, 0).astype(np.uint8)), "TIFF"), "3 of 255"),
    ],
)
def test_mask_of_labels_is_refused_with_its_largest_value(data, said):
    error = refused(data)
    assert error.code == "mask_values"
    assert f"its largest value is {said}" in error.message


def test_black_mask_is_read_and_noise_of_jpeg_is_no_label():
    noisy = np.zeros_like(REGION)
    noisy[::7, ::5] = 1
    for data in (
        encoded(Image.new("L", (WIDTH, HEIGHT))),
        encoded(Image.new("L", (WIDTH, HEIGHT), 1), "JPEG"),
        encoded(Image.fromarray(noisy), "JPEG", quality=100),
    ):
        assert decode_mask(data, WIDTH, HEIGHT).max() < 128


def test_weights_are_read_at_their_own_size_and_by_their_numbers():
    ramp = np.tile(np.arange(100, dtype=np.uint8), (5, 1))
    np.testing.assert_array_equal(decode_weights(encoded(Image.fromarray(ramp))), ramp)
    labels = Image.fromarray((REGION > 0).astype(np.uint8))
    np.testing.assert_array_equal(decode_weights(encoded(labels)), REGION)
