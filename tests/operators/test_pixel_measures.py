"""Measures of pixels, against other implementations of the same definitions."""

import numpy as np
import pytest
import torch
from overpaint.jobs.bench.align import photograph
from overpaint.operators.fidelity import Fidelity
from overpaint.operators.measures.fidelity import pie_fidelity, structural_similarity
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.perceptual_hash import hamming_distance, perceptual_hash
from overpaint.operators.measures.pixel_measure import PixelMeasure
from overpaint.operators.phash import Phash
from overpaint.pipeline import Row, score
from overpaint.pipeline.images import Picture, encode, encode_mask
from PIL import Image
from running import failure_code, outcomes
from skimage import metrics
from torch.nn import functional

PHOTOGRAPHS = ("astronaut", "coffee", "rocket", "camera", "brick", "coins")


def row(pair: Pair) -> dict:
    found = {
        "source_image": encode(Picture(pair.source)),
        "edited_image": encode(Picture(pair.edited)),
    }
    return found if pair.mask is None else {**found, "editable_mask_image": encode_mask(pair.mask)}


def pair(width: int = 60, height: int = 52, mask: bool = False) -> Pair:
    rng = np.random.default_rng(width)
    source = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    edited = np.clip(source + rng.integers(-40, 41, source.shape), 0, 255).astype(np.uint8)
    hole = np.zeros((height, width), np.uint8)
    hole[10:30, 5:40] = 255
    return Pair(source, edited, hole if mask else None)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_hash_is_that_of_imagehash(name):
    imagehash = pytest.importorskip("imagehash")
    image = Image.fromarray(photograph(name))
    for one in (image, image.rotate(90, expand=True), image.resize((37, 90))):
        expected = int(str(imagehash.phash(one)), 16)
        assert perceptual_hash(one) % 2**64 == expected
        assert -(2**63) <= perceptual_hash(one) < 2**63


def test_distance_of_hashes_tells_copies_from_others():
    images = [Image.fromarray(photograph(name)) for name in PHOTOGRAPHS]
    smaller = [
        image.resize((200, 180)).point(lambda value: min(255, value + 10)) for image in images
    ]
    hashes, copies = ([perceptual_hash(one) for one in them] for them in (images, smaller))
    for place, one in enumerate(hashes):
        distances = [hamming_distance(one, other) for other in copies]
        assert distances[place] <= 6
        assert min(distances[:place] + distances[place + 1 :]) >= 16
    assert hamming_distance(-1, 0) == 64
    assert hamming_distance(-(2**63), 0) == 1


def test_hashes_of_a_row_are_columns():
    (found,) = outcomes(Phash(), [row(pair())])
    assert found["phash_distance"] == hamming_distance(found["phash_source"], found["phash_edited"])
    (same,) = outcomes(Phash(), [row(Pair(pair().source, pair().source))])
    assert same["phash_distance"] == 0


@pytest.mark.parametrize("size", [(60, 52), (11, 300), (40, 257), (30, 262)])
def test_whole_similarity_is_that_of_skimage(size):
    source, edited, _ = pair(*size)
    expected = metrics.structural_similarity(source, edited, channel_axis=2, data_range=255)
    assert structural_similarity(source, edited) == pytest.approx(expected, abs=1e-9)
    (found,) = outcomes(Fidelity(), [row(pair(*size))])
    assert found == {"ssim": structural_similarity(source, edited)}


def torch_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM with Gaussian windows of 11 px, as the paper has it and torchmetrics computes it."""
    x, y = (torch.tensor(each / 255.0).permute(2, 0, 1)[:, None] for each in (one, other))
    line = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line[None] / line.sum() ** 2)[None, None]
    mx, my = functional.conv2d(x, window), functional.conv2d(y, window)
    vx = functional.conv2d(x * x, window) - mx**2
    vy = functional.conv2d(y * y, window) - my**2
    cov = functional.conv2d(x * y, window) - mx * my
    top = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
    return float((top / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))).mean())


@pytest.mark.parametrize("size", [(60, 52), (50, 300)])
def test_pie_figures_are_those_of_black_masked_pictures_over_the_whole_frame(size):
    given = pair(*size, mask=True)
    kept = np.zeros(given.mask.shape, bool)
    kept[1:-1, 1:-1] = given.mask[1:-1, 1:-1] == 0
    one, other = given.source * kept[..., None], given.edited * kept[..., None]
    found = pie_fidelity(given)
    mse = float(functional.mse_loss(torch.tensor(one / 255.0), torch.tensor(other / 255.0)))
    assert found.mse == pytest.approx(mse)
    assert found.psnr_db == pytest.approx(
        metrics.peak_signal_noise_ratio(one / 255, other / 255, data_range=1)
    )
    assert found.ssim == pytest.approx(torch_ssim(one, other), abs=1e-9)
    (columns,) = outcomes(Fidelity(pie=True), [row(given)])
    assert columns == {
        "ssim": structural_similarity(*given[:2]),
        "pie_mse": found.mse,
        "pie_psnr_db": found.psnr_db,
        "pie_ssim": found.ssim,
    }


def test_pie_figures_are_null_without_a_background_and_finite_without_a_change():
    given = pair(mask=True)
    whole = given._replace(mask=np.full_like(given.mask, 255))
    for none in (pair(), whole):
        (found,) = outcomes(Fidelity(pie=True), [row(none)])
        assert found["pie_mse"] is found["pie_psnr_db"] is found["pie_ssim"] is None
    (same,) = outcomes(Fidelity(pie=True), [row(given._replace(edited=given.source))])
    assert (same["pie_mse"], same["pie_psnr_db"], same["pie_ssim"]) == (0, 100, pytest.approx(1))


def test_tiny_pictures_have_no_similarity():
    (found,) = outcomes(Fidelity(), [row(pair(6, 6))])
    assert found == {"ssim": None}


class Darkest(PixelMeasure):
    """Finds the darkest pixel outside the mask."""

    columns = (score("darkest", "least value of a kept pixel, 0 to 255"),)

    def measure(self, pair: Pair, row: Row) -> dict:
        return {"darkest": float(pair.edited[pair.kept].min())}


def test_measure_of_ones_own_is_a_class_of_one_function():
    given = pair(mask=True)
    edited = np.full_like(given.source, 50)
    edited[~given.kept] = 7
    (found,) = outcomes(Darkest(), [row(given._replace(edited=edited))])
    assert found == {"darkest": 50}
    assert Darkest().outputs == Darkest.columns
    wrong = row(given._replace(edited=edited[:20]))
    assert failure_code(Darkest(), wrong) == "edited_size"
