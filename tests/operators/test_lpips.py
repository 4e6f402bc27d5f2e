"""LPIPS on weights of the package's layout, here random, against the formula and the package."""

import json

import numpy as np
import pytest
import torch
from overpaint.operators.lpips import Lpips
from overpaint.operators.models import lpips
from overpaint.operators.models.lpips import Lpips as Network
from overpaint.pipeline.images import Picture, encode, encode_mask
from running import outcomes
from safetensors.torch import save_file
from torch import nn

ALEX = {
    "slice1.0": (64, 3, 11),
    "slice2.3": (192, 64, 5),
    "slice3.6": (384, 192, 3),
    "slice4.8": (256, 384, 3),
    "slice5.10": (256, 256, 3),
}


def alex_state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = {}
    for place, (name, (out, into, side)) in enumerate(ALEX.items()):
        state[f"net.{name}.weight"] = torch.randn(out, into, side, side) / (into * side**2) ** 0.5
        state[f"net.{name}.bias"] = torch.randn(out) * 0.1
        state[f"lin{place}.model.1.weight"] = torch.rand(1, out, 1, 1)
    return state


@pytest.fixture
def folder(tmp_path) -> str:
    save_file(alex_state(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"net": "alex"}))
    return str(tmp_path)


def picture(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def expected(one: np.ndarray, other: np.ndarray) -> float:
    """The distance by torch's own layers of AlexNet."""
    state = alex_state()
    layers = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)),
        *(nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    names = [name for name in state if name.startswith("net.")]
    layers.load_state_dict(
        {f"{name.split('.')[2]}.{name.split('.')[3]}": state[name] for name in names}
    )
    x, y = (torch.tensor(each / 127.5 - 1).float().permute(2, 0, 1)[None] for each in (one, other))
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    x, y, total, place = (x - shift) / scale, (y - shift) / scale, 0.0, 0
    with torch.inference_mode():
        for layer in layers:
            x, y = layer(x), layer(y)
            if isinstance(layer, nn.ReLU):
                apart = nn.functional.normalize(x, dim=1) - nn.functional.normalize(y, dim=1)
                weight = state[f"lin{place}.model.1.weight"]
                total += float(nn.functional.conv2d(apart**2, weight).mean())
                place += 1
    return total


def row(source, edited, mask=None) -> dict:
    found = {"source_image": encode(Picture(source)), "edited_image": encode(Picture(edited))}
    return found if mask is None else {**found, "editable_mask_image": encode_mask(mask)}


def left_mask(side: int = 64, columns: int = 16) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[:, :columns] = 255
    return mask


def test_distance_of_the_background_is_normalised_by_its_area(folder):
    source, edited, mask = picture(0), picture(1), left_mask()
    (found,) = outcomes(Lpips(checkpoint=folder), [row(source, edited, mask)])
    composite = np.where(mask[..., None] > 0, source, edited)
    assert found == {"lpips_bg": pytest.approx(expected(source, composite) / 0.75, rel=1e-4)}


def test_pie_distance_is_that_of_black_masked_pictures(folder):
    source, edited, mask = picture(0), picture(1), left_mask()
    (found,) = outcomes(Lpips(checkpoint=folder, pie=True), [row(source, edited, mask)])
    kept = np.zeros((64, 64, 1), bool)
    kept[1:-1, 16:-1] = True
    assert found["pie_lpips"] == pytest.approx(expected(source * kept, edited * kept), rel=1e-4)


def test_only_the_background_counts_and_nothing_is_null(folder):
    source, mask = picture(0), left_mask()
    edited = source.copy()
    edited[:, :16] = 0
    full = np.full((64, 64), 255, np.uint8)
    given = [row(source, edited, mask), row(source, edited), row(source, edited, full)]
    inside, unmasked, everywhere = outcomes(Lpips(checkpoint=folder, pie=True), given)
    assert inside == {"lpips_bg": 0.0, "pie_lpips": 0.0}
    assert unmasked == everywhere == {"lpips_bg": None, "pie_lpips": None}


def test_large_pictures_are_reduced_and_small_ones_null(folder):
    operator = Lpips(checkpoint=folder, max_side_px=64)
    large = row(picture(0, 128), picture(1, 128), left_mask(128, 32))
    small = row(picture(0, 30), picture(1, 30), left_mask(30, 8))
    reduced, nothing = outcomes(operator, [large, small])
    assert reduced["lpips_bg"] > 0
    assert nothing == {"lpips_bg": None}


def test_wrong_folders_are_refused_with_a_sentence(folder, tmp_path):
    Lpips(checkpoint=folder).check()
    with pytest.raises(ValueError, match="from a folder"):
        Lpips(checkpoint="owner/name").check()
    (tmp_path / "config.json").write_text(json.dumps({"net": "alexx"}))
    with pytest.raises(ValueError, match=r"net = 'alexx' .* did you mean 'alex'"):
        Lpips(checkpoint=str(tmp_path)).check()


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_distance_is_that_of_the_authors_package(net):
    package = pytest.importorskip("lpips")
    torch.manual_seed(0)
    theirs = package.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    ours = Network(net, dict(theirs.state_dict()), torch.device("cpu"))
    one, other = picture(2, 96) / 255.0, picture(3, 96) / 255.0
    x, y = (torch.tensor(2 * each - 1).float().permute(2, 0, 1)[None] for each in (one, other))
    with torch.inference_mode():
        assert ours.distance(one, other) == pytest.approx(float(theirs(x, y)), rel=1e-5)
    assert lpips.LEAST_SIDE_PX == 32
