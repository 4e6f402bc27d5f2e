"""Pictures and masks in every format, depth, alpha and orientation, beside what was drawn.

What was drawn are arrays; what a lossy format made of them is what Pillow itself decodes.
"""

import io
import struct
from functools import cache

import numpy as np
import pytest
from overpaint.pipeline.images import decode, decode_mask, encode
from PIL import Image
from png_files import png

WIDTH, HEIGHT = 21, 14
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: np.rot90(stored, 1),
}
TURNABLE = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF")


def _drawn():
    rng = np.random.default_rng(7)
    return (
        rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8),
        rng.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8) * 85,
    )


RGB, GREY, ALPHA = _drawn()
REGION = np.zeros((HEIGHT, WIDTH), np.uint8)
REGION[2:7, 9:20] = 255


def _saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return {"exif": exif}


def _image(mode, rgb=RGB, grey=GREY, alpha=ALPHA):
    """An image of a mode, and the colours and opacity that it stands for."""
    image = Image.fromarray(grey if mode in ("L", "LA", "1") else rgb)
    if mode in ("P", "CMYK", "1"):
        image = image.convert(mode)
        return image, np.asarray(image.convert("RGB")), None
    colours = np.asarray(image.convert("RGB"))
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(alpha))
        return image, colours, alpha
    return image, colours, None


LOSSLESS = {
    "PNG": (("1", "L", "LA", "P", "RGB", "RGBA"), ({}, {"compress_level": 0})),
    "TIFF": (
        ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"),
        ({}, *({"compression": name} for name in ("tiff_lzw", "tiff_deflate", "packbits"))),
    ),
    "WEBP": (("RGB", "RGBA"), ({"lossless": True, "exact": True},)),
    "BMP": (("1", "L", "P", "RGB"), ({},)),
    "GIF": (("L", "P"), ({},)),
    "JPEG2000": (("L", "LA", "RGB", "RGBA"), ({},)),
    "PPM": (("1", "L", "RGB"), ({},)),
}
LOSSY = {
    "JPEG": (("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"subsampling": 0})),
    "WEBP": (("RGB", "RGBA"), ({},)),
    "AVIF": (("RGB", "RGBA"), ({},)),
}


def _of_pillow():
    """Yields a name, a function that stores drawn arrays, and whether it keeps each value."""
    for formats, is_exact in ((LOSSLESS, True), (LOSSY, False)):
        for kind, (modes, choices) in formats.items():
            for mode in modes:
                for options in choices:
                    yield f"{kind} {mode} {options}", kind, mode, options, is_exact


PILLOW = list(_of_pillow())


@pytest.mark.parametrize(
    ("kind", "mode", "options", "is_exact"),
    [case[1:] for case in PILLOW],
    ids=[c[0] for c in PILLOW],
)
def test_picture_that_pillow_stores_is_read_as_it_was_drawn(kind, mode, options, is_exact):
    image, colours, alpha = _image(mode)
    for number in UPRIGHT if kind in TURNABLE else (1,):
        turned = _orientation(number) if number > 1 else {}
        data = _saved(image, kind, **options, **turned)
        if not is_exact:
            stored = Image.open(io.BytesIO(data))
            colours = np.asarray(stored.convert("RGB"))
            alpha = np.asarray(stored.getchannel("A")) if mode == "RGBA" else None
        _check(decode(data), UPRIGHT[number](colours), alpha, UPRIGHT[number])


def _check(found, colours, alpha, turn):
    assert found.rgb.shape == colours.shape
    if alpha is None:
        assert found.alpha is None or found.alpha.min() == 255
        np.testing.assert_array_equal(found.rgb, colours)
        np.testing.assert_array_equal(found.seen, colours)
    else:
        np.testing.assert_array_equal(found.alpha, turn(alpha))
        np.testing.assert_array_equal(found.rgb[found.alpha > 0], colours[turn(alpha) > 0])
        assert (found.seen[found.alpha == 0] == 255).all()
        weight = turn(alpha)[..., None] / 255
        np.testing.assert_allclose(found.seen, colours * weight + 255 * (1 - weight), atol=1)


def _deep(dtype, top):
    return np.round(GREY.astype(np.float64) / 255 * top).astype(dtype)


def _grey3(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def _pgm(values, top):
    head = f"P5 {WIDTH} {HEIGHT} {top}\n".encode()
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


@cache
def _odd():
    """Files that Pillow does not write, with their colours and opacity, by what is odd in them."""
    wide = RGB.astype(np.uint16) * 257
    wide_alpha = ALPHA.astype(np.uint16)[..., None] * 257
    levels = {depth: GREY >> (8 - depth) for depth in (1, 2, 4)}
    cases = {}
    for is_interlaced in (False, True):
        name = "interlaced " if is_interlaced else ""
        for depth, level in levels.items():
            shown = _grey3((level.astype(int) * 255 // (2**depth - 1)).astype(np.uint8))
            last = 2**depth - 1
            cases[f"{name}grey of {depth} bits"] = png(level, depth, (), is_interlaced), shown, None
            cases[f"{name}grey of {depth} bits, one transparent"] = (
                png(level, depth, [(b"tRNS", struct.pack(">H", last))], is_interlaced),
                shown,
                np.where(level == last, 0, 255).astype(np.uint8),
            )
            palette = bytes(range(3 * 2**depth))
            cases[f"{name}palette of {depth} bits"] = (
                png(level, depth, [(b"tRNS", b"\0\x80")], is_interlaced, palette),
                np.frombuffer(palette, np.uint8).reshape(-1, 3)[level],
                np.array([0, 128] + [255] * 254, np.uint8)[level],
            )
        for channels, samples in enumerate((GREY.astype(np.uint16)[..., None] * 257, wide), 1):
            is_grey = channels == 1
            colours = _grey3(GREY) if is_grey else RGB
            with_alpha = np.concatenate([samples, wide_alpha], axis=2)
            of = "grey" if is_grey else "colours"
            cases[f"{name}{of} of 16 bits"] = png(samples, 16, (), is_interlaced), colours, None
            cases[f"{name}{of} and alpha of 16 bits"] = (
                png(with_alpha, 16, (), is_interlaced),
                colours,
                ALPHA,
            )
            first = samples[3, 3]
            cases[f"{name}{of} of 16 bits, one transparent"] = (
                png(samples, 16, [(b"tRNS", first.astype(">u2").tobytes())], is_interlaced),
                colours,
                np.where((samples == first).all(axis=2), 0, 255).astype(np.uint8),
            )
        for channels, samples in ((1, GREY), (2, np.dstack([GREY, ALPHA])), (3, RGB)):
            colours = RGB if channels == 3 else _grey3(GREY)
            alpha = ALPHA if channels == 2 else None
            cases[f"{name}{channels} channels"] = (
                png(samples, 8, (), is_interlaced),
                colours,
                alpha,
            )
    for top in (1.0, 255.0, 65535.0):
        for over in (1.0, 1.001, 1.4):
            values = _deep(np.float32, 255) / 255 * top
            values[0, 0] = over * top
            shown = GREY.copy()
            shown[0, 0] = 255
            data = _saved(Image.fromarray(values.astype(np.float32)), "TIFF")
            cases[f"floats up to {over * top}"] = data, _grey3(shown), None
    for dtype in (np.uint16, np.int32):
        data = _saved(Image.fromarray(_deep(dtype, 65535)), "TIFF")
        cases[f"TIFF {dtype.__name__}"] = data, _grey3(GREY), None
    for top in (255, 1023, 4095, 65535):
        cases[f"PGM up to {top}"] = _pgm(_deep(np.uint16, top), top), _grey3(GREY), None
    # Pillow writes no TIFF with white as 0: the tag of one with black as 0 is changed.
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        data = _saved(Image.fromarray((top - _deep(dtype, top)).astype(dtype)), "TIFF")
        tag = struct.pack("<HHI", 262, 3, 1)
        data = data.replace(tag + b"\1", tag + b"\0")
        cases[f"TIFF {dtype.__name__}, white is 0"] = data, _grey3(GREY), None
    dark = GREY.astype(np.uint16)
    shown = _grey3((dark / 257 + 0.5).astype(np.uint8))
    cases["dark PGM of 16 bits"] = _pgm(dark, 65535), shown, None
    cases["dark PNG of 16 bits"] = png(dark, 16), shown, None
    return cases


@pytest.mark.parametrize("name", _odd())
def test_picture_of_odd_depth_or_alpha_is_read_as_it_was_drawn(name):
    data, colours, alpha = _odd()[name]
    found = decode(data)
    np.testing.assert_allclose(found.rgb.astype(int), colours, atol=1)
    if alpha is None:
        assert found.alpha is None
    else:
        np.testing.assert_array_equal(found.alpha, alpha)


def _masks():
    """Yields names and files of one region, drawn in every way in which a mask may come."""
    three = _grey3(REGION)
    for name, kind, mode, options, _ in PILLOW:
        opaque = np.full_like(REGION, 255)
        yield name, _saved(_image(mode, three, REGION, opaque)[0], kind, **options)
    for mode in ("LA", "RGBA"):
        for value in (0, 255):
            flat = np.full_like(REGION, value)
            image, _, _ = _image(mode, _grey3(flat), flat, REGION)
            yield f"{mode} {value}, in alpha", _saved(image, "PNG")
        yield f"{mode} in both", _saved(_image(mode, three, REGION, REGION)[0], "PNG")
    is_in = REGION > 0
    for is_interlaced in (False, True):
        for depth in (1, 2, 4, 8, 16):
            top = 2**depth - 1
            samples = np.where(is_in, top, 0)
            yield f"{depth} bits {is_interlaced}", png(samples, depth, (), is_interlaced)
            if depth not in (2, 4):  # those are scaled: 1 of 3 and 1 of 15 are greys
                labels = png(is_in.astype(int), depth, (), is_interlaced)
                yield f"labels of {depth} bits {is_interlaced}", labels
    yield "16 bits, soft", png(np.where(is_in, 40_000, 3000), 16)
    yield "8 bits in 16", png(np.where(is_in, 255, 0), 16)
    for dtype, top in ((np.float32, 1), (np.float32, 255), (np.int32, 255), (np.uint16, 65535)):
        values = np.where(is_in, top, 0).astype(dtype)
        yield f"TIFF {dtype.__name__} {top}", _saved(Image.fromarray(values), "TIFF")
    for kind in ("PNG", "TIFF", "BMP", "GIF", "PPM"):
        yield f"labels in {kind}", _saved(Image.fromarray(is_in.astype(np.uint8)), kind)
    for colour in ("lime", "white", "yellow"):
        coloured = Image.new("RGB", (WIDTH, HEIGHT))
        coloured.paste(colour, mask=Image.fromarray(REGION))
        yield colour, _saved(coloured, "PNG")


MASKS = dict(_masks())


@pytest.mark.parametrize("name", MASKS)
def test_mask_marks_the_region_that_was_drawn(name):
    found = decode_mask(MASKS[name], WIDTH, HEIGHT) >= 128
    wanted = REGION > 0
    if name.startswith(("JPEG", "AVIF", "WEBP")):
        edge = np.zeros_like(wanted)
        edge[1:8, 8:21] = True
        edge[3:6, 10:19] = False
        wanted, found = wanted[~edge], found[~edge]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize("kind", [kind for kind in TURNABLE if kind not in ("JPEG", "AVIF")])
def test_mask_with_an_orientation_is_turned_as_a_source_is(kind, number):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _saved(Image.fromarray(REGION), kind, **options, **_orientation(number))
    wanted = UPRIGHT[number](REGION)
    found = decode_mask(data, wanted.shape[1], wanted.shape[0])
    np.testing.assert_array_equal(found, wanted)


def test_crossings_are_as_many_as_they_should_be():
    turned = sum(len(UPRIGHT) if kind in TURNABLE else 1 for _, kind, *_ in PILLOW)
    assert turned + len(_odd()) >= 120
    assert len(MASKS) >= 80


@pytest.mark.parametrize("image_format", ["png", "webp"])
@pytest.mark.parametrize("name", _odd())
def test_picture_that_was_read_is_stored_for_every_reader(name, image_format):
    picture = decode(_odd()[name][0])
    data = encode(picture, image_format)
    stored = Image.open(io.BytesIO(data))
    assert stored.size == (WIDTH, HEIGHT)
    again = decode(data)
    if image_format == "png":
        np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), picture.rgb)
        np.testing.assert_array_equal(again.rgb, picture.rgb)
    if picture.alpha is not None:
        np.testing.assert_array_equal(again.alpha, picture.alpha)
