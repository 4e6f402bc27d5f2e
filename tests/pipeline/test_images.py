import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import (
    Picture,
    decode,
    decode_mask,
    encode,
    encode_mask,
    reading,
)
from overpaint.pipeline.images.latest import Latest
from PIL import Image, ImageCms
from toy_runs import picture

RGB = picture(0, width=7, height=5).rgb
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def code(call, *arguments):
    with pytest.raises(RowError) as caught:
        call(*arguments)
    return caught.value.code


def test_decode_what_encode_made_is_the_same_picture():
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7)
    made = Picture(RGB, alpha, SRGB)
    found = decode(encode(made))
    np.testing.assert_array_equal(found.rgb, RGB)
    np.testing.assert_array_equal(found.alpha, alpha)
    assert found.icc_profile == SRGB
    assert (found.width_px, found.height_px) == (7, 5)


def test_encode_is_the_same_bytes_each_time():
    assert encode(Picture(RGB, None, SRGB)) == encode(Picture(RGB.copy(), None, SRGB))


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_encode_lossy_keeps_size_profile_and_roughly_the_pixels(image_format):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    data = encode(Picture(np.ascontiguousarray(smooth), None, SRGB), image_format, quality=90)
    found = decode(data)
    assert found.rgb.shape == smooth.shape
    assert found.icc_profile == SRGB
    assert np.abs(found.rgb.astype(int) - smooth).mean() < 4


def test_encode_webp_keeps_alpha_and_jpg_leaves_it_out():
    made = Picture(RGB, np.full((5, 7), 128, np.uint8))
    found = decode(encode(made, "webp"))
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, made.alpha)
    assert decode(encode(made, "jpg")).alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_an_image_upright_by_its_exif_orientation(orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255  # white top left corner
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation]))
    found = decode(encoded(stored, "JPEG", exif=exif, quality=100))
    assert (found.width_px, found.height_px) == (48, 32)
    assert found.rgb[:14, :22].min() > 200
    assert found.rgb[18:, 26:].max() < 50


def _odd_exif(orientation):
    """A block of tags as some cameras write it: the resolution as text, and no link to more."""
    tags = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tags += struct.pack(">HHI4s", 0x011A, 2, 4, b"72\0\0")
    return b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 2) + tags + b"\0\0\0\0"


def test_decode_turns_an_image_upright_whatever_its_other_tags_say():
    stored = Image.fromarray(np.zeros((32, 48, 3), np.uint8))
    found = decode(encoded(stored, "JPEG", exif=_odd_exif(6)))
    assert (found.width_px, found.height_px) == (32, 48)


def test_decode_mask_turns_it_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = np.zeros((4, 6), np.uint8)
    mask[:, :3] = 255
    found = decode_mask(encoded(Image.fromarray(mask), "PNG", exif=exif), 4, 6)
    np.testing.assert_array_equal(found, np.rot90(mask, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_decode_modes_without_alpha_come_in_as_rgb(mode):
    found = decode(encoded(Image.fromarray(RGB).convert(mode)))
    assert found.rgb.shape == (5, 7, 3)
    assert found.rgb.dtype == np.uint8
    assert found.alpha is None


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_decode_modes_with_alpha_keep_it(mode):
    image = Image.fromarray(RGB).convert(mode)
    image.putalpha(100)
    found = decode(encoded(image))
    assert found.alpha is not None
    assert set(found.alpha.ravel()) == {100}


def test_decode_palette_with_a_transparent_colour_has_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    found = decode(encoded(image, "GIF", transparency=1))
    assert found.alpha is not None
    assert found.alpha.tolist() == [[255, 0]]
    assert found.rgb[0, 0].tolist() == [255, 0, 0]


def test_decode_takes_the_first_frame_of_several():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    found = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.rgb[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [200, 65535])
def test_decode_16_bit_grey_is_scaled_by_its_depth_and_not_by_its_content(kind, top):
    values = np.linspace(0, top, 64).reshape(8, 8).astype(np.uint16)
    found = decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_allclose(found.rgb[..., 0], values / 257, atol=1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_decode_float_images_fill_the_range_that_holds_them(top):
    values = (np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)) * top
    found = decode(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(found.rgb[..., 1], np.linspace(0, 255, 64).reshape(8, 8), atol=1)


def test_decode_float_image_with_holes_is_an_image():
    values = np.array([[0.0, np.nan], [np.inf, 1.0]], np.float32)
    assert decode(encoded(Image.fromarray(values), "TIFF")).rgb[..., 0].tolist() == [
        [0, 0],
        [0, 255],
    ]


@pytest.mark.parametrize("profile", [None, b"no profile at all", SRGB])
def test_decode_cmyk_comes_in_as_rgb_whatever_its_profile(profile):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    options = {} if profile is None else {"icc_profile": profile}
    found = decode(encoded(image, "JPEG", quality=100, **options))
    red, green, blue = found.rgb[4, 4].tolist()
    assert red > 180
    assert max(green, blue) < 80
    assert found.icc_profile is None


def test_decode_keeps_the_profile_of_a_palette_image_and_drops_that_of_a_grey_one():
    image = Image.fromarray(RGB)
    assert decode(encoded(image.convert("P"), icc_profile=SRGB)).icc_profile == SRGB
    assert decode(encoded(image.convert("L"), icc_profile=SRGB)).icc_profile is None
    assert decode(encoded(image.convert("LA"), icc_profile=SRGB)).icc_profile is None


def test_decode_one_pixel():
    assert decode(encoded(Image.new("RGB", (1, 1), "red"))).rgb.tolist() == [[[255, 0, 0]]]


PHOTO = Image.fromarray(picture(1, 200, 200).rgb)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_decode_truncated_says_so(kind):
    data = encoded(PHOTO, kind)
    assert code(decode, data[: len(data) // 2]) in ("image_truncated", "image_unreadable")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "image_empty"),
        (b"just words", "image_unreadable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unreadable"),
        (b"\x89PNG\r\n\x1a\n", "image_unreadable"),
        (b"\xff\xd8\xff", "image_unreadable"),
    ],
)
def test_decode_what_is_no_image_says_so(data, expected):
    assert code(decode, data) == expected


def _bomb(side):
    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 50_000, 2**30])
def test_decode_bomb_is_refused_before_its_pixels_are(side):
    assert code(decode, _bomb(side)) == "image_too_large"


def test_decode_limit_holds_for_a_picture_that_is_remembered():
    data = encoded(Image.fromarray(RGB))
    decode(data, 35)
    assert code(decode, data, 34) == "image_too_large"
    with pytest.raises(RowError, match="7x5 px is more than max_pixels = 34"):
        decode(data, 34)


SMALL = [encoded(PHOTO.resize((24, 18)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")]


@given(
    st.sampled_from(SMALL),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
    st.none() | st.integers(0, 2**16),
)
def test_decode_of_any_broken_file_is_a_picture_or_a_row_error(data, changes, length):
    broken = bytearray(data[:length])
    for place, value in changes:
        if broken:
            broken[place % len(broken)] = value
    with suppress(RowError), warnings.catch_warnings(action="ignore"):
        assert decode(bytes(broken), 10**6).rgb.ndim == 3


def test_decode_remembered_pictures_cannot_be_changed_by_their_users():
    found = decode(encoded(Image.fromarray(RGB)))
    with pytest.raises(ValueError, match="read-only"):
        found.rgb[0, 0] = 0


def test_decode_in_many_threads_gives_each_its_picture(monkeypatch):
    monkeypatch.setattr(reading, "_LATEST", Latest(3 * 4_000))
    pictures = [picture(seed, 30, 30) for seed in range(12)]
    data = [encode(one) for one in pictures] * 20
    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(decode, data)):
            np.testing.assert_array_equal(found.rgb, pictures[index % 12].rgb)
    assert reading._LATEST._num_bytes <= 3 * 4_000


def test_decode_remembers_the_latest_picture_whatever_its_size(monkeypatch):
    monkeypatch.setattr(reading, "_LATEST", Latest(10))
    one, other = (encode(picture(seed, 30, 30)) for seed in (1, 2))
    assert decode(one) is decode(one)
    first = decode(one)
    assert decode(other) is decode(other)
    assert decode(one) is not first


def test_small_image_is_reduced_only_where_a_picture_is_large(monkeypatch):
    made = picture(1, 60, 40)
    assert made.small_image().size == (60, 40)
    monkeypatch.setattr("overpaint.pipeline.images.picture.LARGE_PX", 60 * 40 // 4)
    assert made.small_image().size == (30, 20)


def test_mask_round_trip_and_scaling():
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 4:] = 255
    data = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(data, 8, 6), mask)
    np.testing.assert_array_equal(decode_mask(data, 16, 12), mask.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("data", [b"", b"words", encode_mask(RGB[..., 0])[:40]])
def test_mask_that_cannot_be_read_says_so(data):
    assert code(decode_mask, data, 7, 5) == "mask_unreadable"


def test_mask_with_too_many_pixels_is_refused_before_they_are_decoded():
    assert code(decode_mask, _bomb(50_000), 7, 5) == "mask_too_large"
