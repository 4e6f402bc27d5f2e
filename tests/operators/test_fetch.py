import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fetching import failure, fetch
from overpaint.operators.fetch import Fetch
from overpaint.pipeline.images import decode
from PIL import Image, ImageCms
from running import outcomes


def as_bytes(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def scene(mode: str = "RGB", width: int = 30, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 30, 200), (width // 2, 0, width, height))
    return image.convert(mode)


def put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name


def test_fetch_file_relative_to_the_base(tmp_path, noise):
    answer = fetch(tmp_path, put(tmp_path, "a.png", noise(1, 48, 40)))
    assert answer["source_image"] == noise(1, 48, 40)
    assert (answer["width_px"], answer["height_px"]) == (48, 40)
    assert len(answer["source_sha256"]) == 64


def test_fetch_upright_size_of_a_photo_on_its_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    name = put(tmp_path, "a.jpg", as_bytes(scene(), "JPEG", exif=exif, quality=95))
    answer = fetch(tmp_path, name)
    assert (answer["width_px"], answer["height_px"]) == (20, 30)
    top, bottom = decode(answer["source_image"]).rgb[[2, -3], 10]
    assert top[0] > 150 > top[2]
    assert bottom[2] > 150 > bottom[0]


def test_fetch_every_usual_format(tmp_path):
    grey16 = Image.fromarray((np.arange(600, dtype=np.uint16) * 100).reshape(20, 30))
    rgba = scene("RGBA")
    rgba.putalpha(128)
    files = {
        "alpha.png": as_bytes(rgba, "PNG"),
        "grey16.png": as_bytes(grey16, "PNG"),
        "palette.png": as_bytes(scene("P"), "PNG"),
        "cmyk.jpg": as_bytes(scene("CMYK"), "JPEG"),
        "grey.jpg": as_bytes(scene("L"), "JPEG"),
        "a.gif": as_bytes(scene("P"), "GIF"),
        "moving.gif": as_bytes(
            scene("P"), "GIF", save_all=True, append_images=[scene("L").convert("P")]
        ),
        "a.webp": as_bytes(scene(), "WEBP"),
        "a.tiff": as_bytes(scene(), "TIFF"),
        "lzw.tif": as_bytes(scene(), "TIFF", compression="tiff_lzw"),
        "a.bmp": as_bytes(scene(), "BMP"),
        "profile.png": as_bytes(
            scene(),
            "PNG",
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ),
    }
    for name, data in files.items():
        answer = fetch(tmp_path, put(tmp_path, name, data))
        picture = decode(answer["source_image"])
        assert (answer["width_px"], answer["height_px"]) == (30, 20), name
        assert picture.rgb.shape == (20, 30, 3), name
        assert (picture.alpha is not None) == (name == "alpha.png"), name
    ramp = decode(files["grey16.png"]).rgb[..., 0]
    assert ramp.max() == round(59900 * 255 / 65535)
    red = decode(files["cmyk.jpg"]).rgb[10, 5]
    assert red[0] > 150 > red[2]


def test_fetch_smallest_and_large_image(tmp_path):
    one = fetch(
        tmp_path,
        put(tmp_path, "one.png", as_bytes(scene(width=2, height=1).crop((0, 0, 1, 1)), "PNG")),
    )
    assert (one["width_px"], one["height_px"]) == (1, 1)
    large = as_bytes(Image.new("RGB", (12_000, 9_000), (9, 99, 199)), "JPEG")
    answer = fetch(tmp_path, put(tmp_path, "large.jpg", large))
    assert (answer["width_px"], answer["height_px"]) == (12_000, 9_000)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_empty"),
        (b"this is no image\n" * 40, "image_unreadable"),
        (b"\xff\xd8\xff", "image_unreadable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unreadable"),
        (as_bytes(scene(width=300, height=200), "JPEG")[:1500], "image_truncated"),
        (as_bytes(scene(width=300, height=200), "PNG")[:300], "image_truncated"),
        (bomb(60_000, 60_000), "image_too_large"),
        (bomb(12_000, 11_000), "image_too_large"),
        (bomb(9_000, 9_000), "image_truncated"),
    ],
    ids=["empty", "text", "stub", "eps", "cut jpeg", "cut png", "bomb", "big", "hollow"],
)
def test_fetch_broken_image_fails_with_its_code(tmp_path, data, code):
    assert failure(tmp_path, put(tmp_path, "a.jpg", data)) == code


def test_fetch_limits_of_pixels_and_bytes(tmp_path, noise):
    name = put(tmp_path, "a.png", noise(1, 48, 40))
    assert failure(tmp_path, name, max_pixels=1919) == "image_too_large"
    assert failure(tmp_path, name, max_bytes=1000) == "source_too_large"
    assert fetch(tmp_path, name, max_pixels=1920, max_bytes=1_000_000)["width_px"] == 48


def test_fetch_limits_and_permissions_are_no_part_of_the_identity():
    from overpaint.pipeline.identity import operator_fingerprint

    wide = Fetch(allow_http=True, allow_local_files=True, max_bytes=9, timeout_s=1, batch_size=3)
    assert operator_fingerprint(Fetch()) == operator_fingerprint(wide)


@pytest.mark.parametrize("uri", ["nothing.png", ".", "sub", "a.png/b.png", "x" * 300, "a\0b.png"])
def test_fetch_what_is_no_file_is_missing(tmp_path, noise, uri):
    put(tmp_path, "a.png", noise(1))
    (tmp_path / "sub").mkdir()
    expected = {"source_missing", "source_forbidden"} if uri == "." else {"source_missing"}
    assert failure(tmp_path, uri) in expected


def test_fetch_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert failure(tmp_path, "pipe.png") == "source_missing"


def test_fetch_outside_the_base_is_forbidden_unless_allowed(tmp_path, noise):
    base = tmp_path / "data"
    (base / "sub").mkdir(parents=True)
    put(tmp_path, "a.png", noise(1))
    put(base, "inside.png", noise(2))
    (tmp_path / "data-other").mkdir()
    put(tmp_path / "data-other", "a.png", noise(1))
    outside = [
        "../a.png",
        "sub/../../a.png",
        "../data-other/a.png",
        str(tmp_path / "a.png"),
        f"file://{tmp_path}/a.png",
        f"{base}/../a.png",
    ]
    for uri in outside:
        assert failure(base, uri) == "source_forbidden", uri
        assert fetch(base, uri, allow_local_files=True)["width_px"] == 48, uri
    for uri in (
        "inside.png",
        "sub/../inside.png",
        str(base / "inside.png"),
        f"file://{base}/inside.png",
    ):
        assert fetch(base, uri)["width_px"] == 48, uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/a.png",
        "memory://a.png",
        "ftp://host/a.png",
        "sftp://host/a.png",
        "simplecache::s3://bucket/a.png",
        "s3://bucket/a.zip::zip://x",
        "zip://a.png::/etc/passwd",
        "github://org:repo@main/a.png",
        "S3X://bucket/a.png",
        "s3://bucket/../other/a.png",
    ],
)
def test_fetch_scheme_that_is_not_allowed_is_forbidden(tmp_path, uri):
    assert failure(tmp_path, uri) == "source_forbidden"


def test_fetch_reads_the_inputs_own_store_and_others_that_are_allowed(noise):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/bucket/prefix/a.png", noise(1))
    assert fetch("memory://bucket/prefix", "a.png")["width_px"] == 48
    assert failure("memory://bucket/prefix", "../prefix/a.png") == "source_forbidden"
    assert failure("memory://bucket/other", "memory://bucket/prefix/a.png") == "source_forbidden"
    uri = "memory://bucket/prefix/a.png"
    assert fetch("memory://bucket/other", uri, allow_schemes=("memory",))["width_px"] == 48
    assert failure("memory://bucket/prefix", "a.png", max_bytes=9) == "source_too_large"
    assert failure("memory://bucket/prefix", "b.png") == "source_missing"


@pytest.mark.s3
def test_fetch_reads_an_object_store(s3, noise):
    from overpaint.pipeline.storage.store import Storage

    Storage(s3).write("a.png", noise(1))
    Storage(s3).write("empty.png", b"")
    assert fetch(s3, "a.png")["source_image"] == noise(1)
    assert fetch("/nowhere", f"{s3}/a.png")["width_px"] == 48
    assert failure(s3, "b.png") == "source_missing"
    assert failure(s3, "empty.png") == "image_empty"
    assert failure(s3, "a.png", max_bytes=9) == "source_too_large"


def test_fetch_batch_answers_in_order_and_one_bad_row_fails_alone(tmp_path, noise):
    rows = [
        {"source_uri": put(tmp_path, f"{i}.png", noise(i, 20 + i, 20)), "base_uri": str(tmp_path)}
        for i in range(4)
    ]
    operator = Fetch()
    model = operator.load()
    found = operator.run([rows[2], rows[0], rows[2], rows[3]], model)
    assert [answer["width_px"] for answer in found] == [22, 20, 22, 23]
    first, missing = outcomes(operator, [rows[0], {**rows[1], "source_uri": "no.png"}], model)
    assert (first["width_px"], missing.code) == (20, "source_missing")


@pytest.mark.parametrize("name", ["a b.png", "50%.png", "é#?.png", "a%20b.png"])
def test_fetch_file_uri_as_programs_write_it(tmp_path, noise, name):
    put(tmp_path, name, noise(1))
    for uri in ((tmp_path / name).as_uri(), (tmp_path / name).as_uri().replace("//", "", 1)):
        assert fetch(tmp_path, uri)["width_px"] == 48
        assert failure(tmp_path / "sub", uri) == "source_forbidden"


def test_fetch_escapes_of_a_file_uri_do_not_lead_out_of_the_folder(tmp_path, noise):
    (tmp_path / "data").mkdir()
    put(tmp_path, "a.png", noise(1))
    for uri in (f"file://{tmp_path}/data/%2e%2e/a.png", f"file:{tmp_path}/data%2F..%2Fa.png"):
        assert failure(tmp_path / "data", uri) == "source_forbidden"


@pytest.mark.parametrize(
    ("there", "asked", "named"),
    [
        ("Photo.PNG", "photo.png", "'Photo.PNG'"),
        ("e\u0301.png", "\u00e9.png", "'e\u0301.png'"),
        ("Images/a.png", "images/a.png", "'Images/a.png'"),
        ("images/a.png", "images\\a.png", "'images/a.png'"),
        ("a.png", "a.png ", "'a.png'"),
    ],
)
def test_fetch_missing_file_names_the_one_that_is_spelled_otherwise(tmp_path, there, asked, named):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"x")
    (missing,) = outcomes(Fetch(), [{"source_uri": asked, "base_uri": str(tmp_path)}])
    assert missing.code == "source_missing"
    assert named in missing.message
    assert str(tmp_path) not in missing.message
    (other,) = outcomes(Fetch(), [{"source_uri": "other.png", "base_uri": str(tmp_path)}])
    assert other.message == "no file is there"
