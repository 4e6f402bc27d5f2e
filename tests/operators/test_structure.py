"""Likeness and structure by vision transformers, against the definitions in plain torch."""

import numpy as np
import pytest
import torch
from overpaint.operators.structure import Structure
from overpaint.pipeline.images import Picture, encode
from PIL import Image
from running import failure_code, outcomes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory) -> str:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(**SIZE, image_size=28, patch_size=7, initializer_range=0.5)
    folder = tmp_path_factory.mktemp("dinov2")
    Dinov2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> str:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    config = ViTConfig(
        **SIZE, intermediate_size=64, image_size=32, patch_size=8, initializer_range=0.5
    )
    folder = tmp_path_factory.mktemp("vit")
    ViTModel(config).save_pretrained(folder)
    return str(folder)


def rows(num: int = 3) -> list[dict]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2 * num, 40, 40, 3), dtype=np.uint8)
    return [
        {"source_image": encode(Picture(one)), "edited_image": encode(Picture(other))}
        for one, other in zip(pictures[:num], pictures[num:], strict=True)
    ]


def pixels_of(data: bytes, side: int, resample, top: float = 1.0) -> torch.Tensor:
    from io import BytesIO

    image = Image.open(BytesIO(data)).convert("RGB").resize((side, side), resample)
    pixels = torch.tensor(np.asarray(image) / 255.0 * top, dtype=torch.float32).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((pixels - mean) / std)[None]


def tokens(model, pixels: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """The class token, and the cosine self-similarity of the last layer's keys."""
    with torch.inference_mode():
        out = model(pixels, output_hidden_states=True, **options)
    layer = (model.encoder.layer if hasattr(model, "encoder") else model.layers)[-1]
    before = next(
        part for name, part in layer.named_children() if name in ("norm1", "layernorm_before")
    )
    projection = next(p for name, p in layer.named_modules() if name.endswith("k_proj"))
    with torch.inference_mode():
        keys = projection(before(out.hidden_states[-2]))[0]
    norms = keys.norm(dim=1, keepdim=True)
    return out.last_hidden_state[0, 0], keys @ keys.T / (norms @ norms.T)


@pytest.mark.parametrize("compat", [False, True])
def test_figures_of_dinov2_are_those_of_its_tokens(dinov2, compat):
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(dinov2)
    operator = Structure(checkpoint=dinov2, side_px=30, pie_compat=compat, batch_size=2)
    resample = Image.Resampling.BILINEAR if compat else Image.Resampling.BICUBIC
    for row, found in zip(rows(), [outcomes(operator, [row])[0] for row in rows()], strict=True):
        one, other = (
            tokens(model, pixels_of(row[name], 28, resample, 255.0 if compat else 1.0))
            for name in ("source_image", "edited_image")
        )
        cosine = torch.cosine_similarity(one[0], other[0], dim=0)
        assert found["dinov2_sim"] == pytest.approx(float(cosine), abs=1e-4)
        assert found["structure_dist"] == pytest.approx(
            float((one[1] - other[1]).square().mean()), rel=1e-3
        )


def test_vit_sees_another_side_than_it_was_trained_with(vit):
    from transformers import ViTModel

    model = ViTModel.from_pretrained(vit)
    (row, *_) = rows()
    (found,) = outcomes(Structure(checkpoint=vit, side_px=48), [row])
    resample = Image.Resampling.BICUBIC
    one, other = (
        tokens(model, pixels_of(row[name], 48, resample), interpolate_pos_encoding=True)
        for name in ("source_image", "edited_image")
    )
    assert found["structure_dist"] == pytest.approx(
        float((one[1] - other[1]).square().mean()), rel=1e-3
    )


def test_same_picture_is_alike_and_answers_do_not_depend_on_neighbours(dinov2):
    operator = Structure(checkpoint=dinov2, side_px=28, batch_size=3)
    given = rows()
    same = {**given[0], "edited_image": given[0]["source_image"]}
    (alike,) = outcomes(operator, [same])
    assert alike["dinov2_sim"] == pytest.approx(1, abs=1e-5)
    assert alike["structure_dist"] == pytest.approx(0, abs=1e-9)
    model = operator.load()
    together = outcomes(operator, given, model)
    assert outcomes(operator, given[::-1], model) == together[::-1]
    assert [outcomes(operator, [row], model)[0] for row in given] == together


def test_values_that_are_not_numbers_fail_the_row(dinov2, tmp_path):
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(dinov2)
    model.embeddings.cls_token.data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    operator = Structure(checkpoint=str(tmp_path), side_px=28)
    assert failure_code(operator, rows(1)[0]) == "nan_in_result"


def test_checkpoint_without_keys_is_refused(tmp_path):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ResNetModel, whose layers have no keys"):
        Structure(checkpoint=str(tmp_path)).load()
