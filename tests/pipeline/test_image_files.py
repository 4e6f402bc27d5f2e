"""Files that say more or less than their pixels: metadata, missing rows, other kinds of files."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.image_formats import IMAGE_SUFFIXES, KNOWN_UNREAD, READ_FORMATS
from overpaint.pipeline.images import decode
from PIL import Image, ImageFilter, PngImagePlugin
from png_files import chunk, png

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def refused(data):
    with pytest.raises(RowError) as caught:
        decode(data)
    return caught.value


def info(*texts):
    found = PngImagePlugin.PngInfo()
    for name, size, options in texts:
        (found.add_itxt if options.pop("is_itxt", False) else found.add_text)(
            name, "x" * size, **options
        )
    return found


@pytest.mark.parametrize(
    "texts",
    [
        [("workflow", 1_200_000, {"zip": True})],
        [("workflow", 1_200_000, {"zip": True, "is_itxt": True})],
        [("workflow", 1_200_000, {})],
        [("prompt", 1_000_000, {"zip": True})] * 70,
        [("icc_profile", 10, {}), ("transparency", 10, {}), ("gamma", 10, {}), ("srgb", 3, {})],
        [("Raw profile type exif", 1_200_000, {"zip": True})],
        [("XML:com.adobe.xmp", 1_200_000, {"zip": True, "is_itxt": True})],
    ],
)
def test_png_is_read_whatever_its_texts(texts):
    texts = [(name, size, dict(options)) for name, size, options in texts]
    found = decode(encoded(Image.fromarray(RGB), pnginfo=info(*texts)))
    np.testing.assert_array_equal(found.rgb, RGB)
    assert found.alpha is found.icc_profile is None


def test_png_is_read_whatever_the_size_of_its_profile():
    for size in (1000, 2**20, 2**20 + 1, 3_000_000):
        profile = os.urandom(size)
        body = b"name\0\0" + zlib.compress(profile)
        found = decode(png(RGB, 8, [(b"iCCP", body)]))
        np.testing.assert_array_equal(found.rgb, RGB)
        assert found.icc_profile == (profile if size <= 2**20 else None)


def test_png_with_a_text_behind_its_pixels_is_read():
    data = encoded(Image.fromarray(RGB))
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2_000_000)))
    np.testing.assert_array_equal(decode(data[:-12] + text + data[-12:]).rgb, RGB)


def test_png_is_turned_by_an_orientation_in_its_texts():
    words = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", words, zip=True)
    texts.add_text("workflow", "x" * 1_200_000, zip=True)
    found = decode(encoded(Image.fromarray(RGB), pnginfo=texts))
    np.testing.assert_array_equal(found.rgb, np.rot90(RGB, -1))
    assert found.is_turned


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_with_fewer_rows_than_it_states_is_truncated(interlaced, depth):
    samples = RGB.astype(np.uint16) * (257 if depth == 16 else 1)
    num_lines = sum(1 for _ in range(40)) if not interlaced else 5 + 5 + 5 + 10 + 10 + 20 + 20
    whole = png(samples, depth, (), interlaced)
    np.testing.assert_array_equal(decode(whole).rgb, RGB)
    for rows in (1, num_lines // 4, num_lines - 1):
        assert refused(png(samples, depth, (), interlaced, rows=rows)).code == "image_truncated"


@pytest.mark.parametrize("side", [(1, 1), (3, 50_000), (2000, 1000)])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_png_that_ends_in_black_is_whole(side, mode):
    found = decode(encoded(Image.new(mode, side)))
    assert not found.rgb.any()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_that_was_cut_and_closed_is_truncated(mode, subsampling):
    photo = Image.fromarray(RGB).resize((403, 297)).filter(ImageFilter.GaussianBlur(2))
    data = encoded(photo.convert(mode), "JPEG", quality=90, subsampling=subsampling)
    assert decode(data).width_px == 403
    for share in (0.3, 0.5, 0.9, 0.98):
        cut = data[: int(len(data) * share)] + b"\xff\xd9"
        assert refused(cut).code == "image_truncated"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_that_ends_in_grey_is_whole(mode, options):
    data = encoded(Image.new("RGB", (100, 80), (128, 128, 128)).convert(mode), "JPEG", **options)
    assert decode(data).rgb.min() == 128
    assert decode(data + b"trailing bytes \xff\xd9 of a phone").rgb.min() == 128


KINDS = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "HTML page": b"\n<!DOCTYPE html>\n<html><svg></svg></html>",
    "XML page": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
    "video": b"\0\0\0\x20ftypisom\0\0\2\0",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0",
    "icon": b"\0\0\1\0\1\0\x10\x10",
    "Photoshop": b"8BPS\0\1",
    "gzip": b"\x1f\x8b\x08\0",
    "zip": b"PK\3\4\x14\0",
    "zero bytes": bytes(3000),
    "'404: Not Found'": b"404: Not Found",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("name", KINDS)
def test_file_that_is_no_image_says_what_it_is(name):
    error = refused(KINDS[name])
    assert error.code == "image_unreadable"
    assert name in error.message


def test_file_of_noise_is_not_named():
    assert refused(b"\x07\x99\xf3" * 100).message == "not an image in a format that can be read"


def test_endings_are_those_of_what_is_decoded():
    assert {".png", ".jpg", ".jfif", ".avif", ".jp2", ".ppm", ".webp"} <= set(IMAGE_SUFFIXES)
    assert (
        not {".eps", ".psd", ".pdf", ".mpg", ".heic"} & set(IMAGE_SUFFIXES)
        or "HEIF" in READ_FORMATS
    )
    assert not set(KNOWN_UNREAD) & set(IMAGE_SUFFIXES)
    assert all(name == name.lower() and name[0] == "." for name in (*IMAGE_SUFFIXES, *KNOWN_UNREAD))


def test_odd_tags_are_passed_over_in_silence(tmp_path):
    broken = b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">HHHII", 9, 0x0112, 3, 1, 0xFFFFFF)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.fromarray(RGB), "JPEG", exif=broken))
    words = (
        "import sys; from pathlib import Path; from overpaint.pipeline.images import decode; "
        "print(decode(Path(sys.argv[1]).read_bytes()).rgb.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, str(path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("(40, 50, 3)", "")
