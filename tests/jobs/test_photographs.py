"""A folder as people have them, images of every format and broken files, through an editor."""

import io
import struct
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.pipeline.images import decode
from PIL import Image

RECIPE = """
[row]
target_prompt = "a red circle"
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
strength = 0.5
batch_size = 4
group = "all"
[budget]
max_failed_share = 1.0
"""
WIDTH, HEIGHT = 60, 40


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _picture(width=WIDTH, height=HEIGHT) -> Image.Image:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, 0)
    return Image.fromarray(np.stack([ramp, ramp[:, ::-1], np.full_like(ramp, 90)], axis=2))


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(_picture(), "JPEG", exif=exif)


def _bomb() -> bytes:
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _alpha() -> Image.Image:
    picture = _picture()
    picture.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    return picture


GOOD = {
    "turned.jpg": (_turned(), (HEIGHT, WIDTH)),
    "alpha.png": (_saved(_alpha(), "PNG"), (WIDTH, HEIGHT)),
    "deep.png": (_saved(Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)), "PNG"), None),
    "cmyk.jpg": (_saved(_picture().convert("CMYK"), "JPEG"), None),
    "palette.gif": (_saved(_picture(), "GIF"), None),
    "photo.webp": (_saved(_picture(), "WEBP"), None),
    "photo.tif": (_saved(_picture(), "TIFF"), None),
    "one.png": (_saved(_picture(1, 1), "PNG"), (1, 1)),
    "large.jpg": (_saved(_picture(12_000, 9_000), "JPEG"), (12_000, 9_000)),
}
BAD = {
    "empty.jpg": (b"", "image_empty"),
    "text.jpg": (b"This is a letter and no photograph.", "image_unreadable"),
    "truncated.jpg": (_saved(_picture(400, 300), "JPEG")[:2000], "image_truncated"),
    "bomb.png": (_bomb(), "image_too_large"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Yields the run folder, and its rows by source."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "input").mkdir()
    for name, (data, _) in {**GOOD, **BAD}.items():
        (folder / "input" / name).write_bytes(data)
    (folder / "recipe.toml").write_text(RECIPE)
    given = ["--input", str(folder / "input"), "--output", str(folder / "run"), "--no-ray"]
    assert main(["run", str(folder / "recipe.toml"), *given]) == 0
    rows = pq.read_table(folder / "run" / "manifest").to_pylist()
    return folder / "run", {row["source_uri"]: row for row in rows}


@pytest.mark.parametrize("name", GOOD)
def test_good_photograph_comes_back_upright_at_its_own_size(run, name):
    folder, rows = run
    row = rows[name]
    assert row["status"] == "accepted", row["error_message"]
    size = GOOD[name][1] or (WIDTH, HEIGHT)
    assert (row["width_px"], row["height_px"]) == size
    edited = decode((folder / row["edited_uri"]).read_bytes())
    assert (edited.width_px, edited.height_px) == size


def test_alpha_comes_back_as_it_was(run):
    folder, rows = run
    edited = decode((folder / rows["alpha.png"]["edited_uri"]).read_bytes())
    assert edited.alpha is not None
    assert np.array_equal(edited.alpha, np.asarray(_alpha().getchannel("A")))


@pytest.mark.parametrize("name", BAD)
def test_bad_file_fails_alone_with_its_code(run, name):
    _, rows = run
    row = rows[name]
    assert (row["status"], row["stage"], row["error_code"]) == ("failed", "fetch", BAD[name][1])
    assert row["edited_uri"] is None


def test_run_is_whole(run):
    folder, rows = run
    assert len(rows) == len(GOOD) + len(BAD)
    assert main(["verify", str(folder)]) == 0
