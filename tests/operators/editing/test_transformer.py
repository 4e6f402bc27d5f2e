"""Transformer editors by one method: each class as diffusers calls it, and rows that stay alone."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from method_cases import make, pixels
from overpaint.operators.edit import Edit
from overpaint.operators.models.picture_processors import picture_processors
from overpaint.operators.models.weights import Checkpoint, read_index
from overpaint.operators.pipelines import PIPELINES
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import operator_fingerprint
from PIL import Image

KLEIN = "Flux2KleinPipeline"
PLUS = "QwenImageEditPlusPipeline"
LONGCAT = "LongCatImageEditPipeline"
KONTEXT = "FluxKontextPipeline"
FIRST = [KLEIN, PLUS, LONGCAT, KONTEXT]
OTHERS = [
    "Flux2KleinKVPipeline",
    "Flux2KleinInpaintPipeline",
    "QwenImageEditPipeline",
    "QwenImageEditInpaintPipeline",
    "FluxFillPipeline",
    "FluxKontextInpaintPipeline",
    "JoyImageEditPipeline",
    "JoyImageEditPlusPipeline",
    "Flux2Pipeline",
    "QwenImage21Pipeline",
]
EACH = [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
"""All classes, the first four quick."""
TWO = [KLEIN, PLUS, *(pytest.param(name, marks=pytest.mark.slow) for name in [*FIRST[2:], *OTHERS])]
"""All classes, two of them quick."""
SIDE_PX, STEPS = 64, 2


def editor(kind, checkpoint_of, **fields):
    given = {"num_inference_steps": STEPS, "resolution": SIDE_PX, "batch_size": 2, **fields}
    return Edit(method="transformer", checkpoint=checkpoint_of(kind), **given)


def one_picture(operator, row):
    """The picture of a row before it is pasted into its source: float32 HWC, 0-255."""
    model = operator.load()
    item = operator.prepare(row, model)
    return item.request, operator.infer([item, item], model)[0]


def spent_by(operator, rows):
    """The evaluations of rows in an actor whose model remembers nothing."""
    model = operator.load()
    model[""].prompts.clear()
    model[""].sources.clear()
    before = model[""].spent.counts()
    answers = operator.run(rows, model)
    assert all(isinstance(answer, dict) for answer in answers), answers
    after = model[""].spent.counts()
    return {kind: n - before.get(kind, 0) for kind, n in after.items() if n > before.get(kind, 0)}


def diffusers_own(kind, checkpoint, request, references):
    """The picture that diffusers' pipeline makes when it is called as its documentation says."""
    folder = Path(checkpoint)
    parts = picture_processors(Checkpoint(name=checkpoint), read_index(folder))
    pipeline = getattr(diffusers, kind).from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(request.seed)  # Joy's pipeline draws the source's latents by it
    source = Image.fromarray(request.picture)
    mask = Image.fromarray(np.rint(request.mask * 255).astype(np.uint8))
    given = {
        "prompt": request.prompt,
        "num_inference_steps": STEPS,
        "generator": torch.Generator().manual_seed(request.seed),
        "output_type": "np",
    }
    size = {"height": request.picture.shape[0], "width": request.picture.shape[1]}
    several = [source, *references]
    own = {
        KLEIN: {"image": several, "guidance_scale": 1.0, **size},
        "Flux2KleinKVPipeline": {"image": several, **size},
        "Flux2KleinInpaintPipeline": {
            "image": source,
            "mask_image": mask,
            "image_reference": references[0] if references else None,
            "strength": 1.0,
            "guidance_scale": 1.0,
            **size,
        },
        PLUS: {"image": several, "negative_prompt": " ", "true_cfg_scale": 4.0, **size},
        "QwenImageEditPipeline": {
            "image": source,
            "negative_prompt": " ",
            "true_cfg_scale": 4.0,
            **size,
        },
        "QwenImageEditInpaintPipeline": {
            "image": source,
            "mask_image": mask,
            "strength": 1.0,
            "negative_prompt": " ",
            "true_cfg_scale": 4.0,
            **size,
        },
        KONTEXT: {"image": source, "max_area": SIDE_PX**2, "_auto_resize": False, **size},
        "FluxFillPipeline": {"image": source, "mask_image": mask, "guidance_scale": 30.0, **size},
        "FluxKontextInpaintPipeline": {
            "image": source,
            "mask_image": mask,
            "image_reference": references[0] if references else None,
            "guidance_scale": 2.5,
            "max_area": SIDE_PX**2,
            "_auto_resize": False,
            **size,
        },
        LONGCAT: {"image": source, "guidance_scale": 4.5},
        "Flux2Pipeline": {"image": several, "guidance_scale": 4.0, **size},
        "QwenImage21Pipeline": {"image": several, "true_cfg_scale": 1.0, **size},
        "JoyImageEditPipeline": {"image": source, "guidance_scale": 4.0, **size},
        "JoyImageEditPlusPipeline": {"images": [several], "guidance_scale": 4.0, **size},
    }[kind]
    if kind == KONTEXT:
        own["guidance_scale"] = 2.5
    return pipeline(**given, **own).images[0][..., :3] * 255.0


@pytest.mark.parametrize("kind", EACH)
def test_editor_makes_the_picture_of_diffusers_own_pipeline(kind, checkpoint_of, row, monkeypatch):
    operator = editor(kind, checkpoint_of)
    given = row(1, height=SIDE_PX, width=SIDE_PX)
    takes = operator.own.used
    if not takes:
        given["reference_images"] = None
    request, picture = one_picture(operator, given)
    references = [Image.fromarray(p) for p in (request.values.get("references") or [])]
    if "Flux2" in kind:  # FLUX.2 takes no picture below 64 pixels: shorter sides are enlarged
        references = [r.resize((107, 64), Image.Resampling.LANCZOS) for r in references]
    if kind == LONGCAT:  # the pipeline would make one megapixel of it
        from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit as module

        monkeypatch.setattr(module, "calculate_dimensions", lambda *_: (SIDE_PX, SIDE_PX))
    expected = diffusers_own(kind, operator.checkpoint, request, references)
    assert expected.shape == picture.shape
    assert np.abs(picture - expected).max() < 1e-3 * 255
    assert np.abs(picture - request.picture).mean() > 1.0  # it is no copy of the source


@pytest.mark.parametrize("kind", TWO)
def test_row_is_alone_beside_neighbours_of_other_length_and_references(kind, checkpoint_of, row):
    operator = editor(kind, checkpoint_of, batch_size=3)
    model = operator.load()
    own = row(0, height=SIDE_PX, width=SIDE_PX)
    other = row(1, height=SIDE_PX, width=SIDE_PX, instruction="make it a very much longer text")
    third = row(2, height=SIDE_PX, width=SIDE_PX, reference_images=own["reference_images"])
    alone = operator.run([own], model)[0]["edited_image"]
    for batch, slot in (([own, other, third], 0), ([other, own], 1), ([third, other, own], 2)):
        assert operator.run(batch, model)[slot]["edited_image"] == alone
    model[""].prompts.clear()
    model[""].sources.clear()
    assert operator.run([own], model)[0]["edited_image"] == alone


@pytest.mark.parametrize("kind", TWO)
def test_sources_of_two_sizes_come_back_at_their_own(kind, checkpoint_of, row):
    operator = editor(kind, checkpoint_of, batch_size=1, resolution=96)
    model = operator.load()
    rows = [row(0, height=56, width=66), row(1, height=80, width=70)]
    assert operator.bucket(rows[0]) != operator.bucket(rows[1])
    for one in rows:
        assert pixels(operator.run([one], model)[0]).shape[:2] == (
            one["height_px"],
            one["width_px"],
        )


@pytest.mark.parametrize("kind", TWO)
def test_costs_are_those_that_are_spent(kind, checkpoint_of, row):
    operator = editor(kind, checkpoint_of)
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    stated = sum((operator.cost(one, {}) for one in rows), Cost()).counts()
    assert spent_by(operator, rows) == stated


@pytest.mark.parametrize(
    ("kind", "fields", "stated"),
    [
        (KLEIN, {}, {"forward": STEPS, "vae_encode": 3, "vae_decode": 1, "text": 1}),
        (
            PLUS,
            {"guidance_scale": 1.0},
            {"forward": STEPS, "vae_encode": 3, "vae_decode": 1, "text": 1, "vision": 3},
        ),
        (
            PLUS,
            {},
            {"forward": 2 * STEPS, "vae_encode": 3, "vae_decode": 1, "text": 2, "vision": 6},
        ),
        (
            LONGCAT,
            {"guidance_scale": 1.0},
            {"forward": STEPS, "vae_encode": 1, "vae_decode": 1, "text": 1, "vision": 1},
        ),
    ],
)
def test_costs_count_references_and_branches(kind, fields, stated, checkpoint_of, row, noise):
    operator = editor(kind, checkpoint_of, **fields)
    given = row(0, height=SIDE_PX, width=SIDE_PX, reference_images=[noise(1), noise(2)])
    assert operator.cost(given, {}).counts() == stated
    assert operator.cost({**given, "reference_images": None, "references": ["a", "b"]}, {}).counts()
    assert spent_by(operator, [given]) == stated


def test_klein_that_is_not_distilled_is_guided(tmp_path, row):
    from tiny_editors import save_klein

    checkpoint = save_klein(tmp_path, is_distilled=False)
    given = {"checkpoint": checkpoint, "resolution": SIDE_PX, "batch_size": 2}
    usual = Edit(method="transformer", **given).own
    assert (usual.num_inference_steps, usual.guidance_scale) == (50, 4.0)
    operator = Edit(method="transformer", num_inference_steps=STEPS, **given)
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    stated = sum((operator.cost(one, {}) for one in rows), Cost())
    assert stated.forward == 2 * 2 * STEPS
    # The empty prompt is embedded once an actor, and is no row's.
    assert spent_by(operator, rows) == (stated + Cost(text=1)).counts()


@pytest.mark.parametrize("kind", TWO[:2])
def test_edits_of_one_source_encode_it_once(kind, checkpoint_of, row):
    operator = editor(kind, checkpoint_of, batch_size=3)
    first = row(0, height=SIDE_PX, width=SIDE_PX, reference_images=None)
    rows = [{**first, "instruction": f"make it {word}"} for word in ("x", "yy", "zzz")]
    spent = spent_by(operator, rows)
    assert spent["vae_encode"] == 1
    assert spent["vae_decode"] == 3
    again = [{**one, "seed": 7} for one in rows]
    before = operator.load()[""].spent
    operator.run(again, operator.load())
    after = operator.load()[""].spent
    assert (after.text, after.vae_encode) == (before.text, before.vae_encode)


@pytest.mark.parametrize("kind", [KLEIN, PLUS])
def test_references_count_in_their_order(kind, checkpoint_of, row, noise):
    operator = editor(kind, checkpoint_of)
    model = operator.load()
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    one, two = noise(1, 64, 80), noise(2, 96, 64)
    made = {
        name: operator.run([{**given, "reference_images": images}], model)[0]["edited_image"]
        for name, images in {"both": [one, two], "swapped": [two, one], "none": None}.items()
    }
    assert len(set(made.values())) == 3
    assert operator.bucket({**given, "reference_images": [one, two]}) != operator.bucket(given)


def test_reference_that_klein_does_not_take(checkpoint_of, row, noise):
    operator = editor(KLEIN, checkpoint_of)
    model = operator.load()
    small = row(0, height=SIDE_PX, width=SIDE_PX, reference_images=[noise(1, 8, 9)])
    assert "edited_image" in operator.run([small], model)[0]
    long = {**small, "reference_images": [noise(1, 900, 100)]}
    with pytest.raises(Exception, match="more than 8 times as long as wide") as caught:
        operator.run([long], model)
    assert caught.value.code == "references_invalid"


def test_kontext_is_the_same_by_either_name(checkpoint_of, row):
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    by_class = editor(KONTEXT, checkpoint_of)
    by_name = make("kontext", checkpoint_of, num_inference_steps=2, resolution=64, batch_size=2)
    one, other = (o.run([given], o.load())[0] for o in (by_class, by_name))
    assert one["edited_image"] == other["edited_image"]


def test_class_without_a_call_of_its_own_is_called_by_usual_names(checkpoint_of, row):
    given = row(0, height=SIDE_PX, width=SIDE_PX, reference_images=None)
    own = editor(KLEIN, checkpoint_of)
    generic = editor(KLEIN, checkpoint_of, editor="generic")
    one, other = (o.run([given], o.load())[0] for o in (own, generic))
    assert one["edited_image"] == other["edited_image"]


MINE = '''
from overpaint.operators.pipelines.flux2_klein import Flux2Klein

class Mine(Flux2Klein):
    """An editor that shows the references alone."""

    def arguments(self, request, settings):
        given = super().arguments(request, settings)
        return {**given, "image": given["image"][1:]}
'''


def test_editor_of_ones_own(checkpoint_of, row, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_editor.py").write_text(MINE)
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    own = editor(KLEIN, checkpoint_of, editor="my_editor:Mine")
    own.check()
    plain = editor(KLEIN, checkpoint_of)
    one, other = (o.run([given], o.load())[0] for o in (own, plain))
    assert one["edited_image"] != other["edited_image"]


def test_inpainting_takes_the_weights_of_the_editor_without_a_mask(checkpoint_of, row):
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    operator = editor(KLEIN, checkpoint_of, editor="flux2_klein_inpaint", strength=0.5)
    operator.check()
    assert operator.cost(given, {}).forward == STEPS // 2
    assert spent_by(operator, [given])["forward"] == STEPS // 2
    with pytest.raises(Exception, match="needs a mask"):
        operator.prepare({**given, "mask_image": None}, operator.load())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"checkpoint": "owner/name"}, "name its editor: .*flux2_klein"),
        ({"editor": "flux2_klien"}, "did you mean 'flux2_klein'"),
        ({"editor": "longcat_image_edit"}, "takes a LongCatImageEditPipeline"),
        ({"checkpoint": "papercut"}, "papercut has none"),
    ],
)
def test_wrong_editor_is_refused_before_a_run(fields, message, checkpoint_of):
    given = {"checkpoint": checkpoint_of(KLEIN), **fields}
    with pytest.raises(ValueError, match=message):
        Edit(method="transformer", **given).check()


def test_klein_counts_the_tokens_of_its_template(checkpoint_of, row):
    operator = editor(KLEIN, checkpoint_of)
    model = operator.load()
    template = model[""].pipeline.tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )
    fits = 512 - len(template["input_ids"])
    for more in (0, 3):
        given = row(0, instruction="a" * (fits + more))
        assert operator.prepare(given, model).tokens_cut == more


def test_every_editor_says_what_shares_a_call():
    facts = Edit.variants.find("transformer").facts()
    for name in PIPELINES.names():
        assert "a call" in facts[f"editor {name}"]
    assert "one row a call" in facts["editor flux2_klein"]
    assert "share a call" in facts["editor flux_kontext"]


@pytest.mark.parametrize(
    ("cache", "kind", "batch_size", "message"),
    [
        ("first_block", KONTEXT, 2, "FirstBlockCache decides by a mean over the batch"),
        ("sea", KONTEXT, 2, "SeaCache decides by a mean over the batch"),
        ("teacache", KONTEXT, 2, "TeaCache decides by a mean over the batch"),
        ("dbcache", KONTEXT, 2, "DBCache decides by a mean over the batch"),
        ("teacache", KLEIN, 2, "no TeaCache for pictures"),
    ],
)
def test_cache_that_mixes_rows_is_refused_by_name(cache, kind, batch_size, message, checkpoint_of):
    operator = editor(kind, checkpoint_of, cache=cache, batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        operator.check()


@pytest.mark.parametrize(("cache", "kind"), [("taylorseer", KLEIN), ("first_block", PLUS)])
def test_cache_of_one_row_a_call_keeps_rows_apart(cache, kind, checkpoint_of, row):
    fields = {"num_inference_steps": 6, "batch_size": 2, "cache": cache}
    operator = editor(kind, checkpoint_of, **fields)
    operator.check()
    model = operator.load()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    alone = operator.run(rows[:1], model)[0]["edited_image"]
    assert operator.run(rows[::-1], model)[1]["edited_image"] == alone
    plain = editor(kind, checkpoint_of, num_inference_steps=6)
    assert operator_fingerprint(plain) != operator_fingerprint(operator)
    if cache == "taylorseer":
        assert plain.run(rows[:1], plain.load())[0]["edited_image"] != alone


def test_weights_kept_in_float8_give_another_picture_and_key(checkpoint_of, row):
    given = row(0, height=SIDE_PX, width=SIDE_PX)
    plain = editor(KLEIN, checkpoint_of)
    small = editor(KLEIN, checkpoint_of, storage="float8")
    weights = small.load()[""].pipeline.transformer.transformer_blocks[0].attn.to_q.weight
    assert weights.dtype == torch.float8_e4m3fn
    one, other = (o.run([given], o.load())[0] for o in (plain, small))
    assert one["edited_image"] != other["edited_image"]
    assert operator_fingerprint(plain) != operator_fingerprint(small)


@pytest.mark.slow
@pytest.mark.parametrize("speed", ["fast", "draft"])
def test_compiled_blocks_keep_rows_apart(speed, checkpoint_of, row):
    operator = editor(KLEIN, checkpoint_of, num_inference_steps=4, speed=speed)
    model = operator.load()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    alone = operator.run(rows[:1], model)[0]["edited_image"]
    assert operator.run(rows[::-1], model)[1]["edited_image"] == alone
    plain = editor(KLEIN, checkpoint_of, num_inference_steps=4)
    assert operator_fingerprint(plain) != operator_fingerprint(operator)
    exact = plain.run(rows[:1], plain.load())[0]
    difference = np.abs(pixels(exact).astype(int) - pixels({"edited_image": alone}).astype(int))
    assert difference.max() <= 2  # so small a network that no cache changes more
