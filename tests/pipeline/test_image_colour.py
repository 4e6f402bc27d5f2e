"""Colours that a file says more of than its numbers: profiles, gamma, primaries, ranges."""

import io
import struct

import numpy as np
import pytest
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Picture, decode, decode_mask, encode
from PIL import Image, ImageCms
from png_files import png

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
COLOURS = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def grey_profile(gamma):
    """The smallest ICC profile of grey values with a gamma."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    start = 128 + 4 + 2 * 12
    tags = struct.pack(">I4sII", 2, b"wtpt", start, len(white))
    tags += struct.pack(">4sII", b"kTRC", start + len(white), len(curve))
    body = tags + white + curve
    head = struct.pack(
        ">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + body


def srgb_of(light):
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return curve * 255


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_profile_is_applied(kind, gamma):
    data = encoded(Image.fromarray(RAMP), kind, icc_profile=grey_profile(gamma))
    numbers = np.asarray(Image.open(io.BytesIO(data)))
    found = decode(data)
    wanted = srgb_of((numbers / 255) ** gamma)
    np.testing.assert_allclose(found.rgb[..., 0], wanted, atol=2)
    assert (found.rgb == found.rgb[..., :1]).all()
    assert found.icc_profile is None


def test_grey_profile_is_applied_beside_alpha_and_at_16_bits():
    image = Image.fromarray(RAMP)
    image.putalpha(Image.fromarray(RAMP[:, ::-1]))
    found = decode(encoded(image, icc_profile=grey_profile(1.0)))
    np.testing.assert_array_equal(found.alpha, RAMP[:, ::-1])
    assert found.rgb[0, 128, 0] == pytest.approx(188, abs=1)
    deep = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), icc_profile=grey_profile(1.0))
    assert decode(deep).rgb[0, 128, 0] == pytest.approx(188, abs=1)


@pytest.mark.parametrize("profile", [SRGB, b"no profile", SRGB[:200]])
def test_grey_numbers_stay_where_the_profile_is_none_of_grey(profile):
    found = decode(encoded(Image.fromarray(RAMP), icc_profile=profile))
    np.testing.assert_array_equal(found.rgb[..., 1], RAMP)
    assert found.icc_profile is None


def test_mask_is_its_numbers_whatever_its_profile():
    data = encoded(Image.fromarray(RAMP), icc_profile=grey_profile(1.0))
    np.testing.assert_array_equal(decode_mask(data, 256, 4), RAMP)


def gamma_chunk(gamma):
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 1 / 1.4])
def test_gamma_of_a_png_is_applied(gamma):
    for samples in (RAMP, np.dstack([RAMP] * 3)):
        found = decode(png(samples, 8, [gamma_chunk(gamma)]))
        np.testing.assert_allclose(found.rgb[..., 2], srgb_of((RAMP / 255) ** (1 / gamma)), atol=1)


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma_chunk(0.45455)],
        [gamma_chunk(0.0)],
        [(b"sRGB", b"\0"), gamma_chunk(1.0)],
        [(b"cICP", bytes([1, 13, 0, 1])), gamma_chunk(1.0)],
    ],
)
def test_numbers_stay_where_a_png_is_srgb(chunks):
    np.testing.assert_array_equal(decode(png(COLOURS, 8, chunks)).rgb, COLOURS)


def test_profile_is_kept_where_a_png_has_a_gamma_too():
    data = encoded(Image.fromarray(COLOURS), icc_profile=SRGB)
    place = data.index(b"IDAT") - 4
    found = decode(data[:place] + png(COLOURS, 8, [gamma_chunk(1.0)])[33:49] + data[place:])
    np.testing.assert_array_equal(found.rgb, COLOURS)
    assert found.icc_profile == SRGB


@pytest.mark.parametrize(
    ("primaries", "numbers", "wanted"),
    [
        (12, (0, 0, 0), (0, 0, 0)),
        (12, (255, 255, 255), (255, 255, 255)),
        (12, (128, 128, 128), (128, 128, 128)),
        (12, (234, 51, 35), (255, 0, 0)),
        (12, (255, 0, 0), (255, 0, 0)),
        (9, (200, 200, 200), (200, 200, 200)),
        (9, (208, 75, 35), (255, 0, 0)),
    ],
)
def test_wide_primaries_of_a_png_are_those_of_srgb(primaries, numbers, wanted):
    data = png(np.full((2, 2, 3), numbers), 8, [(b"cICP", bytes([primaries, 13, 0, 1]))])
    np.testing.assert_allclose(decode(data).rgb[0, 0].astype(int), wanted, atol=6)


@pytest.mark.parametrize(
    ("least", "most"),
    [(-1, 1), (-0.5, 0.5), (0, 3), (0, 8e4 * 1.5), (-2.1, 2.6), (0, 1000)],
)
def test_floats_that_fit_no_range_are_refused(least, most):
    values = np.linspace(least, most, 64, dtype=np.float32).reshape(8, 8)
    with pytest.raises(RowError, match=rf"from {least:g} to {most:g}") as caught:
        decode(encoded(Image.fromarray(values), "TIFF"))
    assert caught.value.code == "image_range"


@pytest.mark.parametrize("values", [[[-5, 3]], [[0, 70_000]]])
def test_whole_numbers_that_fit_no_range_are_refused(values):
    with pytest.raises(RowError) as caught:
        decode(encoded(Image.fromarray(np.array(values, np.int32)), "TIFF"))
    assert caught.value.code == "image_range"


@pytest.mark.parametrize("size", [0, 1, 2_000, 2**20, 2**20 + 1, 1_500_000, 20_000_000])
@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_picture_with_any_profile_is_stored_for_every_reader(image_format, size):
    profile = np.random.default_rng(size).bytes(size)
    data = encode(Picture(COLOURS, None, profile), image_format)
    kept = Image.open(io.BytesIO(data))
    kept.load()
    assert decode(data).rgb.shape == COLOURS.shape
    most = {"png": 2**20, "jpg": 255 * 65_519, "webp": 2**26}[image_format]
    assert kept.info.get("icc_profile") == (profile if 0 < size <= most else None)


def test_jpeg_is_what_is_seen():
    alpha = np.zeros((12, 20), np.uint8)
    alpha[:, 10:] = 255
    found = decode(encode(Picture(np.full((12, 20, 3), 40, np.uint8), alpha), "jpg"))
    assert found.rgb[:, :8].min() > 250
    assert found.rgb[:, 12:].max() < 60


@pytest.mark.parametrize(("image_format", "side"), [("jpg", 65_501), ("webp", 16_384)])
def test_picture_that_is_too_long_for_its_format_is_refused(image_format, side):
    strip = Picture(np.zeros((1, side, 3), np.uint8))
    with pytest.raises(RowError, match=f"{image_format} holds {side - 1} px") as caught:
        encode(strip, image_format)
    assert caught.value.code == "edited_size"
    assert decode(encode(Picture(strip.rgb[:, :-1]), image_format)).width_px == side - 1
    assert decode(encode(strip)).width_px == side
