"""Three hundred bad images among a thousand: they fail with a code, and nothing else notices."""

import io
import json
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.faults.operator import calls
from PIL import Image

pytestmark = pytest.mark.ray

NUM_GOOD, NUM_BAD = 700, 300
FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
    "BMP": ".bmp",
}
CODES = {"image_empty", "image_unreadable", "image_truncated", "image_too_large"}
RECIPE = """
[[stage]]
operator = "overpaint.jobs.faults.operator:Traced"
name = "traced"
batch_size = 4
batch_ms = 0
log = "{log}"
[budget]
max_failed_share = 1.0
"""


def _image(rng: np.random.Generator, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
    """Cuts the data in the first half, where no format has all of its pixels."""
    return data[: int(rng.integers(1, len(data) // 2))]


def _no_head(rng: np.random.Generator, data: bytes) -> bytes:
    return bytes(16) + data[16:]


def _other_head(rng: np.random.Generator, data: bytes) -> bytes:
    return rng.bytes(12) + data[12:]


def _noise(rng: np.random.Generator, data: bytes) -> bytes:
    return rng.bytes(len(data))


def _text(rng: np.random.Generator, data: bytes) -> bytes:
    return b"this is not an image " * int(rng.integers(1, 50))


def _empty(rng: np.random.Generator, data: bytes) -> bytes:
    return b""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", packed)
        + _chunk(b"IEND", b"")
    )


def _pixel_bomb(rng: np.random.Generator, data: bytes) -> bytes:
    """Returns a few hundred bytes that claim billions of pixels."""
    side = int(rng.integers(30_000, 60_000))
    return _png(side, side, zlib.compress(bytes(10_000)))


def _bad_chunk(rng: np.random.Generator, data: bytes) -> bytes:
    """Returns a PNG whose first chunk claims to be longer than the file."""
    sound = _png(20, 20, zlib.compress(bytes(20 * 61)))
    return sound[:8] + struct.pack(">I", int(rng.integers(10_000, 2**31))) + sound[12:]


def _bad_stream(rng: np.random.Generator, data: bytes) -> bytes:
    return _png(20, 20, rng.bytes(200))


def _archive(rng: np.random.Generator, data: bytes) -> bytes:
    return b"PK\x03\x04" + rng.bytes(200)


def _script(rng: np.random.Generator, data: bytes) -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n"


DAMAGES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
    _cut,
    _no_head,
    _other_head,
    _noise,
    _text,
    _empty,
    _pixel_bomb,
    _bad_chunk,
    _bad_stream,
    _archive,
    _script,
)


def _write_images(folder):
    """Writes good and bad images in all formats, shuffled; their names say which they are."""
    (folder / "input").mkdir()
    rng = np.random.default_rng(0)
    kinds = list(FORMATS)
    for index in rng.permutation(NUM_GOOD + NUM_BAD).tolist():
        kind = kinds[index % len(kinds)]
        data, name = _image(rng, kind), f"{index:04d}-good{FORMATS[kind]}"
        if index >= NUM_GOOD:
            damage = DAMAGES[index % len(DAMAGES)]
            data, name = damage(rng, data), f"{index:04d}-bad{FORMATS[kind]}"
        (folder / "input" / name).write_bytes(data)


def _run(folder, output, *options):
    recipe = folder / f"{output}.toml"
    recipe.write_text(RECIPE.format(log=folder / f"{output}.log"))
    given = ["--input", str(folder / "input"), "--output", str(folder / output)]
    assert main(["run", str(recipe), *given, *options]) == 0
    return {
        row["source_uri"]: row for row in pq.read_table(folder / output / "manifest").to_pylist()
    }


@pytest.mark.slow
def test_bad_images_fail_with_a_code_and_disturb_nothing(tmp_path):
    _write_images(tmp_path)
    rows = _run(tmp_path, "all", "--num-cpus", "2")
    bad = {uri: row for uri, row in rows.items() if "bad" in uri}
    assert (len(rows), len(bad)) == (NUM_GOOD + NUM_BAD, NUM_BAD)
    assert {row["status"] for row in bad.values()} == {"failed"}
    assert {row["stage"] for row in bad.values()} == {"fetch"}
    assert {row["error_code"] for row in bad.values()} == CODES
    # The one actor lived from the first row to the last, by the operator's own log.
    assert len({call.pid for call in calls(tmp_path / "all.log")}) == 1
    for uri in bad:
        (tmp_path / "input" / uri).unlink()
    alone = _run(tmp_path, "good", "--no-ray")
    assert len(alone) == NUM_GOOD
    assert {uri: row for uri, row in rows.items() if uri not in bad} == alone
    images = {path.name: path.read_bytes() for path in (tmp_path / "all" / "images").rglob("*.png")}
    assert images == {p.name: p.read_bytes() for p in (tmp_path / "good" / "images").rglob("*.png")}
    success = json.loads((tmp_path / "all" / "_SUCCESS.json").read_text())
    assert (success["accepted"], success["failed"]) == (NUM_GOOD, NUM_BAD)
