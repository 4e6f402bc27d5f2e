"""Quantised weights: which layers, what becomes of rows and keys, and what is refused."""

import diffusers
import pytest
import torch
from method_cases import pixels
from needs import NEEDS_QUANTIZATION
from overpaint.operators.edit import Edit
from overpaint.operators.models import quantization
from overpaint.pipeline.identity import operator_fingerprint
from tiny_loras import save_lora

pytestmark = NEEDS_QUANTIZATION
KLEIN, PLUS, KONTEXT = "Flux2KleinPipeline", "QwenImageEditPlusPipeline", "FluxKontextPipeline"
KINDS = ["int8_weight_only", "float8_weight_only", "bitsandbytes_8bit", "bitsandbytes_4bit"]
SIDE_PX = 64


def editor(kind, checkpoint_of, **fields):
    given = {"num_inference_steps": 2, "resolution": SIDE_PX, "batch_size": 2, **fields}
    return Edit(method="transformer", checkpoint=checkpoint_of(kind), **given)


def edited(operator, rows):
    return [answer["edited_image"] for answer in operator.run(rows, operator.load())]


@pytest.mark.parametrize("kind", KINDS)
def test_quantized_weights_give_another_picture_and_key(kind, checkpoint_of, row):
    plain = editor(KLEIN, checkpoint_of)
    small = editor(KLEIN, checkpoint_of, quantization=kind)
    small.check()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    one, other = edited(small, rows)
    assert edited(small, rows[:1]) == [one]
    assert edited(small, rows[::-1]) == [other, one]
    assert edited(plain, rows[:1]) != [one]
    assert operator_fingerprint(plain) != operator_fingerprint(small)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "bitsandbytes_8bit"])
def test_rows_that_share_a_call_stay_alone(kind, checkpoint_of, row):
    operator = editor(KONTEXT, checkpoint_of, quantization=kind)
    operator.check()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    one, other = edited(operator, rows)
    assert edited(operator, rows[:1]) == [one]
    assert edited(operator, rows[::-1]) == [other, one]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_picture_is_near_that_of_the_weights(kind, dtype, checkpoint_of, row):
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    plain = editor(PLUS, checkpoint_of, dtype=dtype)
    small = editor(PLUS, checkpoint_of, dtype=dtype, quantization=kind)
    (one,), (other,) = edited(plain, [given]), edited(small, [given])
    difference = pixels({"edited_image": one}) - pixels({"edited_image": other}).astype(float)
    assert 0 < abs(difference).mean() < 2


@pytest.mark.parametrize("kind", KINDS[:2])
def test_weights_are_those_of_diffusers_own_quantization(kind, checkpoint_of):
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]

    own = {"int8_weight_only": Int8WeightOnlyConfig, "float8_weight_only": Float8WeightOnlyConfig}
    config = diffusers.TorchAoConfig(own[kind](set_inductor_config=False))
    expected = diffusers.Flux2Transformer2DModel.from_pretrained(
        checkpoint_of(KLEIN),
        subfolder="transformer",
        quantization_config=config,
        dtype=torch.float32,
    )
    operator = editor(KLEIN, checkpoint_of, quantization=kind)
    made = operator.load()[""].pipeline.transformer
    names = [name for name, m in made.named_modules() if isinstance(m, torch.nn.Linear)]
    assert len(names) > 10
    for name in names:
        one, other = (model.get_submodule(name).weight for model in (made, expected))
        assert type(one) is type(other)
        assert torch.equal(one.dequantize(), other.dequantize())


def test_only_linear_layers_of_the_named_parts_are_quantized(checkpoint_of, row):
    from bitsandbytes.nn import Linear4bit  # pyright: ignore[reportMissingImports]

    parts = ("transformer", "text_encoder")
    operator = editor(
        KLEIN, checkpoint_of, quantization="bitsandbytes_4bit", components_to_quantize=parts
    )
    operator.check()
    pipeline = operator.load()[""].pipeline
    layers = {
        name: [m for m in getattr(pipeline, name).modules() if isinstance(m, torch.nn.Linear)]
        for name in parts
    }
    assert all(isinstance(layer, Linear4bit) for layer in layers["transformer"])
    plain = [layer for layer in layers["text_encoder"] if not isinstance(layer, Linear4bit)]
    assert plain == [pipeline.text_encoder.lm_head]
    assert not any(isinstance(m, Linear4bit) for m in pipeline.vae.modules())
    transformer_alone = editor(KLEIN, checkpoint_of, quantization="bitsandbytes_4bit")
    assert operator_fingerprint(transformer_alone) != operator_fingerprint(operator)
    given = [row(0, height=SIDE_PX, width=SIDE_PX)]
    assert edited(transformer_alone, given) != edited(operator, given)


def test_adapters_are_quantized_with_the_weights(checkpoint_of, tmp_path, row):
    given = [row(0, height=SIDE_PX, width=SIDE_PX)]
    adapters = ({"checkpoint": save_lora(checkpoint_of(KLEIN), KLEIN, tmp_path)},)
    plain = editor(KLEIN, checkpoint_of, quantization="bitsandbytes_4bit")
    steered = editor(KLEIN, checkpoint_of, quantization="bitsandbytes_4bit", adapters=adapters)
    assert edited(plain, given) != edited(steered, given)


def test_weights_of_another_number_type_are_as_they_were(checkpoint_of):
    fields = {"quantization": "", "components_to_quantize": ("transformer",)}
    plain, named = editor(KLEIN, checkpoint_of), editor(KLEIN, checkpoint_of, **fields)
    assert operator_fingerprint(plain) == operator_fingerprint(named)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (KONTEXT, {"quantization": "bitsandbytes_8bit"}, "outliers of all rows of a call"),
        (KLEIN, {"quantization": "int8_weight_only", "storage": "float8"}, "in one way"),
        (
            KLEIN,
            {"quantization": "int8_weight_only", "components_to_quantize": ("text_encoders",)},
            "did you mean 'text_encoder'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(kind, fields, message, checkpoint_of):
    with pytest.raises(ValueError, match=message):
        editor(kind, checkpoint_of, **fields).check()


@pytest.mark.parametrize(("kind", "library"), [(KINDS[0], "torchao"), (KINDS[3], "bitsandbytes")])
def test_library_that_is_not_there_is_named(kind, library, checkpoint_of, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    operator = editor(KLEIN, checkpoint_of, quantization=kind)
    with pytest.raises(ValueError, match=rf"needs {library}: pip install overpaint\[quant"):
        operator.check()


def test_neighbours_change_a_row_of_llm_int8():
    """Shows why rows may not share a call: an outlier of one row takes a column of all."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64).eval()
    quantized = quantization._quantized(layer, "bitsandbytes_8bit")
    row_12d, neighbour_12d = torch.randn(1, 2, 64), torch.randn(1, 2, 64)
    neighbour_12d[..., 5] = 20.0
    with torch.no_grad():
        alone = quantized(torch.cat([row_12d, row_12d]))[0]
        beside = quantized(torch.cat([row_12d, neighbour_12d]))[0]
    assert not torch.equal(alone, beside)
