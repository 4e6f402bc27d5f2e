"""LoRAs and values of schedulers that a recipe adds to a checkpoint."""

import diffusers
import pytest
import torch
from overpaint.operators.edit import Edit
from overpaint.operators.invert import Invert
from overpaint.operators.models.content import content_key, num_bytes
from overpaint.operators.recent import Recent
from overpaint.pipeline.identity import identity_fields, operator_fingerprint
from PIL import Image
from pydantic import ValidationError
from tiny_loras import save_lora

KLEIN = "Flux2KleinPipeline"
SD = "StableDiffusionPipeline"
LONGCAT = "LongCatImageEditPipeline"
SIDE_PX = 64


@pytest.fixture(scope="session", params=[KLEIN, SD])
def with_lora(request, checkpoint_of, tmp_path_factory):
    """A class of checkpoint, and two LoRAs of it."""
    kind = request.param
    folders = [tmp_path_factory.mktemp("lora") for _ in range(2)]
    loras = [save_lora(checkpoint_of(kind), kind, folder, n) for n, folder in enumerate(folders)]
    return kind, loras


def edit_of(kind, checkpoint_of, adapters=(), **fields):
    method = "transformer" if kind == KLEIN else "sdedit"
    own = {"resolution": SIDE_PX} if kind == KLEIN else {}
    given = {"num_inference_steps": 2, "batch_size": 1, **own, **fields}
    return Edit(method=method, checkpoint=checkpoint_of(kind), adapters=adapters, **given)


def edited(operator, row):
    operator.check()
    return operator.run([row(0, height=SIDE_PX, width=SIDE_PX)], operator.load())[0]


def test_lora_changes_the_picture_and_is_in_the_key(with_lora, checkpoint_of, row):
    kind, (first, second) = with_lora
    plain = edit_of(kind, checkpoint_of)
    edits = {
        "one": edit_of(kind, checkpoint_of, [{"checkpoint": first}]),
        "half": edit_of(kind, checkpoint_of, [{"checkpoint": first, "scale": 0.5}]),
        "both": edit_of(kind, checkpoint_of, [{"checkpoint": first}, {"checkpoint": second}]),
    }
    answers = {name: edited(edit, row) for name, edit in edits.items()}
    answers["plain"] = edited(plain, row)
    assert len({answer["edited_image"] for answer in answers.values()}) == len(answers)
    assert len({answer["revision"] for answer in answers.values()}) == len(answers)
    keys = {operator_fingerprint(edit) for edit in (plain, *edits.values())}
    assert len(keys) == len(answers)
    assert "adapters" not in identity_fields(plain)


def test_lora_of_scale_0_gives_the_bytes_of_none(with_lora, checkpoint_of, row):
    kind, (first, _) = with_lora
    none = edit_of(kind, checkpoint_of, [{"checkpoint": first, "scale": 0.0}])
    plain = edit_of(kind, checkpoint_of)
    assert edited(none, row)["edited_image"] == edited(plain, row)["edited_image"]


def test_lora_of_other_bytes_has_another_key(checkpoint_of, tmp_path):
    folder = save_lora(checkpoint_of(SD), SD, tmp_path)
    before = operator_fingerprint(edit_of(SD, checkpoint_of, [{"checkpoint": folder}]))
    save_lora(checkpoint_of(SD), SD, tmp_path, seed=5)
    assert operator_fingerprint(edit_of(SD, checkpoint_of, [{"checkpoint": folder}])) != before


def test_lora_gives_the_picture_of_diffusers_own_pipeline(checkpoint_of, tmp_path, row):
    first = save_lora(checkpoint_of(KLEIN), KLEIN, tmp_path)
    operator = edit_of(KLEIN, checkpoint_of, [{"checkpoint": first, "scale": 0.5}])
    model = operator.load()
    given = row(0, height=SIDE_PX, width=SIDE_PX, reference_images=None)
    item = operator.prepare(given, model)
    request, picture = item.request, operator.infer([item], model)[0]
    pipeline = diffusers.Flux2KleinPipeline.from_pretrained(operator.checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(first, adapter_name="own")
    pipeline.set_adapters(["own"], [0.5])
    expected = pipeline(
        image=Image.fromarray(request.picture),
        prompt=request.prompt,
        height=SIDE_PX,
        width=SIDE_PX,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
    ).images[0]
    assert abs(picture - expected * 255.0).max() < 1e-3 * 255


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ([{"checkpoint": "/no/such/folder"}], "no file 'pytorch_lora_weights.safetensors'"),
        ([{"checkpoint": "owner/name", "file": "lora.bin"}], "only safetensors"),
    ],
)
def test_missing_adapter_is_refused_before_a_run(adapters, message, checkpoint_of):
    with pytest.raises(ValueError, match=message):
        edit_of(SD, checkpoint_of, adapters).check()


def test_wrong_field_of_an_adapter_is_refused():
    with pytest.raises(ValidationError, match="adapters"):
        Edit(method="sdedit", adapters=[{"checkpoint": "owner/name", "scal": 1}])


def test_class_without_loras_is_refused_before_a_run(checkpoint_of, tmp_path):
    folder = save_lora(checkpoint_of(SD), SD, tmp_path)
    edit = Edit(
        method="transformer",
        checkpoint=checkpoint_of(LONGCAT),
        adapters=[{"checkpoint": folder}],
    )
    with pytest.raises(ValueError, match="no LoRA into a LongCatImageEditPipeline"):
        edit.check()


def test_inversion_with_the_same_lora_shares_the_model(checkpoint_of, tmp_path, row):
    lora = {"checkpoint": save_lora(checkpoint_of(SD), SD, tmp_path)}
    given = {"checkpoint": checkpoint_of(SD), "batch_size": 1, "adapters": [lora]}
    invert = Invert(method="ddim", num_inference_steps=2, **given)
    edit = Edit(method="ddim", **given)
    assert invert.load() is edit.load()[""]
    first = row(0)
    inverted = {**first, **invert.run([first], invert.load())[0]}
    assert "edited_image" in edit.run([inverted], edit.load())[0]
    other = Edit(method="ddim", checkpoint=checkpoint_of(SD), batch_size=1)
    assert other.run([inverted], other.load())[0].code == "inversion_mismatch"


@pytest.mark.parametrize("kind", [KLEIN, SD])
def test_value_of_the_scheduler_changes_the_picture_and_the_key(kind, checkpoint_of, row):
    values = {KLEIN: {"shift_terminal": 0.3}, SD: {"beta_end": 0.05}}[kind]
    plain, other = edit_of(kind, checkpoint_of), edit_of(kind, checkpoint_of, scheduler=values)
    assert edited(plain, row)["edited_image"] != edited(other, row)["edited_image"]
    assert operator_fingerprint(plain) != operator_fingerprint(other)


def test_unknown_value_of_the_scheduler_is_refused(checkpoint_of):
    edit = edit_of(KLEIN, checkpoint_of, scheduler={"shift_terminel": 0})
    with pytest.raises(ValueError, match="did you mean 'shift_terminal'"):
        edit.load()


def test_results_are_remembered_up_to_a_size():
    recent, calls = Recent(max_size=3 * 4 * 10), []

    def make_for(number):
        return lambda: calls.append(number) or torch.zeros(10)

    for number in (1, 2, 3, 1, 4, 1, 2):
        recent.get(number, make_for(number), num_bytes)
    assert calls == [1, 2, 3, 4, 2]


def test_content_key_is_of_contents():
    one, other = torch.zeros(2, 3), torch.zeros(3, 2)
    assert content_key([one, "a", None]) == content_key([one.clone(), "a", None])
    assert content_key(one) != content_key(other)
    assert content_key(one) != content_key(one.to(torch.bfloat16))
    assert content_key(Image.new("RGB", (2, 3))) != content_key(Image.new("RGB", (3, 2)))
    assert content_key(1) != content_key(1.0) != content_key(True)
    with pytest.raises(TypeError, match="object"):
        content_key(object())
