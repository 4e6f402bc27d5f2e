"""`edit`, on tiny checkpoints of the real classes."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from method_cases import (
    BATCH,
    EACH_METHOD,
    EACH_PIPELINE,
    STEPS,
    check_cost,
    check_outside_is_the_source,
    check_rows_are_independent,
    make,
    pixels,
    ready,
)
from overpaint.operators.edit import Edit
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Rejected
from PIL import Image


@pytest.mark.parametrize("case", EACH_METHOD)
def test_edit_row_depends_on_nothing_but_itself(case, checkpoint_of, row):
    check_rows_are_independent(make(case, checkpoint_of), row)


@pytest.mark.parametrize("case", EACH_METHOD)
def test_edit_spends_what_its_method_states(case, checkpoint_of, row):
    check_cost(make(case, checkpoint_of), row)


@pytest.mark.parametrize("case", EACH_METHOD)
def test_edit_outside_the_dilated_mask_is_the_source(case, checkpoint_of, row):
    check_outside_is_the_source(make(case, checkpoint_of, mask_dilate_px=2), row)


def test_edit_answer_says_how_it_was_made(checkpoint_of, row):
    operator = make("sdedit", checkpoint_of, guidance_scale=3.0)
    answer = operator.run([row(0)] * BATCH, operator.load())[0]
    assert set(answer) == {column.name for column in operator.outputs}
    assert answer["method"] == "sdedit"
    assert answer["revision"] == operator.revisions()["checkpoint"]
    params = json.loads(answer["params_json"])
    assert params["guidance_scale"] == 3.0
    assert params["strength"] == 0.7
    assert "image_guidance_scale" not in params


def test_edit_seed_changes_the_picture(checkpoint_of, row):
    operator = make("sdedit", checkpoint_of)
    answers = operator.run([row(0), row(0, seed=7), row(0)], operator.load())
    assert answers[0]["edited_image"] == answers[2]["edited_image"]
    assert answers[0]["edited_image"] != answers[1]["edited_image"]


def test_sdedit_eta_adds_noise_of_the_row_alone(checkpoint_of, row):
    check_rows_are_independent(make("sdedit", checkpoint_of, eta=1.0), row)
    plain, noisy = (make("sdedit", checkpoint_of, eta=eta) for eta in (0.0, 1.0))
    first, second = (each.run([row(0)], each.load())[0] for each in (plain, noisy))
    assert first["edited_image"] != second["edited_image"]


def test_edit_without_mask_changes_everything(checkpoint_of, row):
    operator = make("sdedit", checkpoint_of)
    given = row(0, height=20, width=50, mask_image=None)
    answer = operator.run([given] * BATCH, operator.load())[0]
    source = decode(given["source_image"]).rgb
    assert pixels(answer).shape == source.shape
    assert np.mean(np.any(pixels(answer) != source, axis=-1)) > 0.95


def test_edit_without_paste_back_changes_what_lies_outside(checkpoint_of, row):
    operator = make("sdedit", checkpoint_of, paste_back=False)
    given = row(0)
    changed = pixels(operator.run([given] * BATCH, operator.load())[0])
    assert np.any(changed[24:] != decode(given["source_image"]).rgb[24:])


@pytest.mark.parametrize("fit", ["whole", "crop"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (300, 2), (90, 130), (8, 8)])
def test_edit_any_size_comes_back(fit, height, width, checkpoint_of, row):
    operator = make("blended_latent_diffusion", checkpoint_of, fit=fit)
    full = Image.new("L", (width, height), 255)
    out = io.BytesIO()
    full.save(out, "PNG")
    given = row(0, height=height, width=width, mask_image=out.getvalue())
    answer = operator.run([given] * BATCH, operator.load())[0]
    assert pixels(answer).shape == (height, width, 3)


def test_edit_crop_sees_the_mask_at_full_resolution(checkpoint_of, row):
    operator = make(
        "blended_latent_diffusion", checkpoint_of, fit="crop", mask_dilate_px=0, feather_px=0
    )
    mask = np.zeros((300, 400), np.uint8)
    mask[100:110, 200:212] = 255
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    given = row(0, height=300, width=400, mask_image=out.getvalue())
    model = operator.load()
    answer = operator.run([given] * BATCH, model)[0]
    changed = np.any(pixels(answer) != decode(given["source_image"]).rgb, axis=-1)
    assert np.mean(changed[mask > 0]) > 0.9
    assert not changed[mask == 0].any()


def test_edit_of_a_cropped_inversion_stays_in_the_mask(checkpoint_of, row):
    operator = make("ddim", checkpoint_of, mask_dilate_px=0)
    (given,) = ready(operator, [row(0, height=100, width=90)], fit="crop")
    assert given["inverted_path"].frame.box != (0, 0, 90, 100)
    answer = operator.run([given], operator.load())[0]
    changed = np.any(pixels(answer) != decode(given["source_image"]).rgb, axis=-1)
    assert changed[25:50, 22:45].any()
    changed[25:50, 22:45] = False
    assert not changed.any()


@pytest.mark.parametrize("case", ["ddim", "blended_latent_diffusion"])
def test_edit_empty_mask_is_rejected(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    out = io.BytesIO()
    Image.new("L", (32, 32), 0).save(out, "PNG")
    rows = ready(operator, [row(0), row(1, mask_image=out.getvalue()), row(2)])
    answers = operator.run(rows, operator.load())
    assert isinstance(answers[1], Rejected)
    assert answers[1].code == "mask_empty"
    assert not isinstance(answers[0], Rejected)


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
def test_edit_keeps_alpha_and_profile(image_format, checkpoint_of, row):
    operator = make("sdedit", checkpoint_of)
    rgba = np.random.default_rng(0).integers(0, 256, (30, 30, 4), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "PNG", icc_profile=b"a profile")
    given = row(0, height=30, width=30, source_image=out.getvalue(), image_format=image_format)
    answer = operator.run([given] * BATCH, operator.load())[0]
    image = Image.open(io.BytesIO(answer["edited_image"]))
    assert image.format == {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}[image_format]
    assert image.info["icc_profile"] == b"a profile"
    if image_format == "png":
        assert np.array_equal(np.asarray(image)[..., 3], rgba[..., 3])


def test_edit_nan_is_a_row_error(checkpoint_of, row):
    operator = make("sdedit", checkpoint_of)
    model = operator.load()
    weight = model[""].vae.decoder.conv_out.bias
    kept = weight.clone()
    weight.fill_(float("nan"))
    try:
        answers = operator.run([row(0)] * BATCH, model)
    finally:
        weight.copy_(kept)
    assert [answer.code for answer in answers] == ["nan_in_result"] * BATCH


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"target_prompt": None}, "prompt_missing"),
        ({"mask_image": None}, "mask_missing"),
        ({"source_image": b"no image"}, "image_unreadable"),
    ],
)
def test_edit_row_that_cannot_be_done_fails_alone(columns, code, checkpoint_of, row):
    operator = make("blended_latent_diffusion", checkpoint_of)
    model = operator.load()
    rows = [row(0), row(1, **columns), row(2)]
    before = model[""].spent
    answers = operator.run(rows, model)
    assert answers[1].code == code
    assert model[""].spent.forward - before.forward == BATCH * STEPS * 2, "one call, full shape"
    whole = operator.run([row(0), row(2)], model)
    assert [answers[0]["edited_image"], answers[2]["edited_image"]] == [
        answer["edited_image"] for answer in whole
    ]


def test_edit_inversion_of_other_weights_fails(checkpoint_of, row):
    operator = make("ddim", checkpoint_of)
    rows = ready(make("ddim-StableDiffusionXLPipeline", checkpoint_of), [row(0)])
    (answer,) = operator.run(rows, operator.load())
    assert answer.code == "inversion_mismatch"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "inpant"}, "did you mean 'inpaint'"),
        ({"method": "kontext", "strength": 0.5}, "strength is not used by method 'kontext'"),
        ({"method": "ddim", "num_inference_steps": 5}, "stage `invert`: set it there"),
        ({"method": "sdedit", "guidance_scal": 2}, "did you mean 'guidance_scale'"),
        ({"method": "sdedit", "batch_siz": 2}, "did you mean 'batch_size'"),
        ({"method": "sdedit", "strength": 1.5}, "less than or equal to 1"),
        ({"method": "prompt_to_prompt", "cross_attention_share": 0.5}, "'cross_replace_steps'"),
        ({"method": "sdedit", "mask_grow_px": 2}, "'mask_dilate_px'"),
    ],
)
def test_edit_wrong_field_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Edit(**fields)


def test_edit_resolved_fields_can_be_read_again(checkpoint_of):
    operator = make("sdedit", checkpoint_of)
    assert Edit(**operator.model_dump()) == operator
    assert Edit(**json.loads(operator.model_dump_json())) == operator


def test_edit_wrong_checkpoint_is_refused(checkpoint_of):
    operator = make(
        "sdedit", checkpoint_of, checkpoint=checkpoint_of("StableDiffusionInstructPix2PixPipeline")
    )
    with pytest.raises(ValueError, match="StableDiffusionInstructPix2PixPipeline"):
        operator.check()
    with pytest.raises(ValueError, match="not a folder"):
        make("sdedit", checkpoint_of, checkpoint="/no/such/folder").check()


def test_edit_import_does_not_import_torch():
    code = (
        "import sys; from overpaint.operators import edit, invert; edit.Edit(method='kontext');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("case", EACH_PIPELINE)
def test_edit_that_freed_memory_inexactly_says_so(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    model = operator.load()
    editor = getattr(model[""], "loaded", model[""])
    rows = ready(operator, [row(number) for number in range(BATCH)])
    before = operator.run(rows, model)
    assert "oom_fallbacks" not in json.loads(before[0]["params_json"])
    assert operator.free_memory(model, exact=True) is None  # a CPU has nowhere to offload to
    vae = getattr(editor, "pipeline", editor).vae
    try:
        assert operator.free_memory(model, exact=False) == "vae_slicing"
        assert operator.free_memory(model, exact=False) is None
        after = operator.run(rows, model)
    finally:
        vae.disable_slicing()
        editor.oom_fallbacks = ()
    assert json.loads(after[0]["params_json"])["oom_fallbacks"] == ["vae_slicing"]
    for one, other in zip(before, after, strict=True):
        assert np.abs(pixels(one).astype(int) - pixels(other).astype(int)).max() <= 2


@pytest.mark.parametrize("case", EACH_PIPELINE)
def test_edit_with_offloaded_parts_gives_the_same_bytes(case, checkpoint_of, row):
    from overpaint.operators.diffusion import latent_model

    if "StableDiffusion" not in case:
        pytest.skip("diffusers moves the parts of other pipelines itself")
    operator = make(case, checkpoint_of)
    rows = ready(operator, [row(number) for number in range(BATCH)])
    before = operator.run(rows, operator.load())
    latent_model.load_latent_model.cache_clear()
    model = operator.load()
    # As on a GPU, but that here both places are the CPU.
    latent_model._offload(model[""])
    assert operator.run(rows, model) == before
    latent_model.load_latent_model.cache_clear()
