"""Small pictures: whatever a run's images are, they come out upright, small, or not at all."""

import io
from base64 import b64decode

import numpy as np
import pytest
from overpaint.jobs.report.contact_sheet import contact_sheet
from overpaint.jobs.report.report import write_report
from overpaint.jobs.report.thumbnails import small_image, thumbnail
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage
from PIL import Image
from report_runs import Page, failed, planned_row, write_run


def _bytes(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _noise(width, height, mode="RGB"):
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _decoded(found):
    return Image.open(io.BytesIO(b64decode(found.data_uri.split(",", 1)[1])))


def test_small_image_keeps_its_shape():
    assert small_image(_bytes(_noise(400, 200)), 160).size == (160, 80)
    assert small_image(_bytes(_noise(40, 20)), 160).size == (40, 20)
    assert small_image(_bytes(_noise(3000, 2)), 160).size == (160, 1)


def test_small_image_is_upright():
    image = Image.new("RGB", (200, 100), "white")
    image.paste("red", (0, 0, 20, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = small_image(_bytes(image, "JPEG", exif=exif), 100)
    assert found.size == (50, 100)
    red, green, _ = np.asarray(found)[2, 25]
    assert red > 200 > 100 > green


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_small_image_reads_every_mode(mode):
    image = _noise(30, 20).convert(mode if mode != "I;16" else "I").convert(mode)
    found = small_image(_bytes(image, "TIFF"), 160)
    assert found.size == (30, 20)
    assert found.mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_small_image_shows_no_hidden_colours(kind):
    image = Image.new("RGBA", (30, 20), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (0, 0, 10, 20))
    found = small_image(_bytes(image, kind), 160)
    assert found.getpixel((5, 5))[0] > 250 > 5 > found.getpixel((5, 5))[2]
    assert found.getpixel((20, 5)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"text", _bytes(_noise(64, 64))[:200], b"\x89PNG\r\n\x1a\n"])
def test_small_image_refuses_what_is_none(data):
    with pytest.raises(RowError):
        small_image(data, 160)


def test_pixels_of_a_small_image_are_exact():
    image = _noise(64, 64)
    found = thumbnail(image, 100_000)
    assert found.is_crisp
    assert np.array_equal(np.asarray(_decoded(found).convert("RGB")), np.asarray(image))


def test_mask_becomes_opacity():
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    alpha = _decoded(thumbnail(mask, 2000, is_mask=True)).convert("RGBA").getchannel("A")
    assert alpha.getpixel((10, 10)) == 255
    assert alpha.getpixel((50, 10)) == 0


@pytest.mark.parametrize("max_bytes", [20_000, 5_000, 1_500])
def test_thumbnail_of_noise_stays_within_its_bytes(max_bytes):
    found = thumbnail(_noise(160, 120), max_bytes)
    assert len(found.data_uri) <= max_bytes * 4 / 3 + 40
    assert (found.width_px, found.height_px) == (160, 120)


def test_report_of_a_run_in_an_object_store_has_its_pictures(tmp_path):
    local = write_run(tmp_path, [planned_row(number) for number in range(3)])
    remote = RunFolder(Storage(f"memory://{tmp_path.name}/run"))
    for path in local.storage.list():
        remote.storage.write(path, local.storage.read(path))
    write_report(remote)
    assert all(Page(remote).data["thumbnails"])


def test_contact_sheet_shows_accepted_rows_in_pairs(tmp_path):
    rows = [planned_row(number) for number in range(12)]
    rows[0] = failed(rows[0], "edit", "out_of_memory", "too large")
    sheet = contact_sheet(write_run(tmp_path, rows), rows=4)
    assert sheet.mode == "RGB"
    assert sheet.size == (1280, 536)
    assert sheet.getpixel((128, 128)) == (210, 60, 50)
    assert sheet.getpixel((528, 128)) == (40, 90, 200)


def test_contact_sheet_without_an_accepted_row_is_empty(tmp_path):
    rows = [failed(planned_row(0), "edit", "out_of_memory", "too large")]
    assert contact_sheet(write_run(tmp_path, rows)).getcolors() is not None
