"""Textual inversions and ControlNets that a recipe adds to a checkpoint."""

import diffusers
import numpy as np
import pytest
import torch
from method_cases import make, pixels, ready, sources_of, stages_before
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.edit import Edit
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import identity_fields, operator_fingerprint
from pydantic import ValidationError
from safetensors.torch import save_file

SD, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
KINDS = [SD, XL]
STEPS = 4
WORD = "<own>"


def save_word(folder, kind, num_vectors=2):
    """Saves a word of some vectors as diffusers' training scripts do."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(num_vectors, 16, generator=generator)
    second = torch.randn(num_vectors, 24, generator=generator)
    own = {WORD: vectors} if kind == SD else {"clip_l": vectors, "clip_g": second}
    save_file(own, folder / "word.safetensors")
    return {"checkpoint": str(folder), "kind": "textual_inversion", "file": "word.safetensors"}


def save_control(folder, checkpoint, kind, seed=0):
    """Saves a ControlNet of a checkpoint's UNet whose last layers are not zeros."""
    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")
    net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    for name, weights in net.named_parameters():
        if "controlnet_" in name or "conv_out" in name:
            torch.nn.init.normal_(weights, std=0.3)
    net.save_pretrained(folder)
    return {"checkpoint": str(folder), "kind": "controlnet"}


def save_image_prompt(folder, checkpoint):
    """Saves an IP-Adapter with random weights as its authors do: two parts in one file."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(5)
    unet = diffusers.UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")
    width = unet.config.cross_attention_dim
    weights = {
        "image_proj.proj.weight": torch.randn(4 * width, 16),
        "image_proj.proj.bias": torch.randn(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    cross = [name for name in unet.attn_processors if "attn2" in name]
    for place, name in enumerate(cross):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        for key in ("to_k_ip", "to_v_ip"):
            own = torch.randn(layer.to_k.out_features, width)
            weights[f"ip_adapter.{2 * place + 1}.{key}.weight"] = own
    (folder / "models").mkdir()
    save_file(weights, folder / "models" / "ip.safetensors")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "models" / "image_encoder")
    return {
        "checkpoint": str(folder),
        "kind": "ip_adapter",
        "file": "models/ip.safetensors",
        "image_encoder": "models/image_encoder",
    }


def sketched(row, number, **columns):
    """A row whose sketch is what another row has as its source."""
    return row(number, sketch_image=row(200 + number)["source_image"], **columns)


def edit_of(kind, checkpoint_of, *adapters, method="sdedit", **fields):
    return make(f"{method}-{kind}", checkpoint_of, adapters=list(adapters), **fields)


def edited(operator, rows):
    operator.check()
    return [answer["edited_image"] for answer in operator.run(rows, operator.load())]


@pytest.mark.parametrize("kind", KINDS)
def test_word_changes_the_picture_where_a_prompt_has_it(kind, checkpoint_of, tmp_path, row):
    word = {**save_word(tmp_path, kind), **({"word": WORD} if kind == XL else {})}
    plain, with_word = edit_of(kind, checkpoint_of), edit_of(kind, checkpoint_of, word)
    off = edit_of(kind, checkpoint_of, {**word, "scale": 0})
    rows = [row(0, target_prompt=f"a {WORD} b"), row(1)]
    usual, changed, none = (edited(operator, rows) for operator in (plain, with_word, off))
    assert usual[0] != changed[0]
    assert usual[1] == changed[1]
    assert none == usual
    assert len({operator_fingerprint(operator) for operator in (plain, with_word, off)}) == 3


def test_word_of_two_vectors_is_as_in_diffusers(checkpoint_of, tmp_path, row):
    operator = edit_of(SD, checkpoint_of, save_word(tmp_path, SD))
    model = operator.load()[""]
    from overpaint.operators.diffusion.prompts import embed

    own = embed(model, [f"a {WORD} b"]).tokens_bsd
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(operator.checkpoint)
    pipeline.load_textual_inversion(str(tmp_path), weight_name="word.safetensors")
    expected = pipeline.encode_prompt(f"a {WORD} b", "cpu", 1, False)[0]
    assert torch.allclose(own, expected, atol=1e-6)
    assert model.text_length(f"a {WORD} b").num_tokens == 2 + 2 + 2


def test_textual_inversion_has_no_share(tmp_path):
    adapter = {**save_word(tmp_path, SD), "scale": 0.5}
    with pytest.raises(ValidationError, match="a textual inversion is there, or not"):
        Edit(method="sdedit", adapters=[adapter])


@pytest.mark.parametrize("kind", KINDS)
def test_control_net_changes_the_picture_by_the_rows_sketch(kind, checkpoint_of, tmp_path, row):
    control = save_control(tmp_path, checkpoint_of(kind), kind)
    rows = [sketched(row, 0), sketched(row, 1)]
    edits = {
        "plain": edit_of(kind, checkpoint_of),
        "on": edit_of(kind, checkpoint_of, control),
        "half": edit_of(kind, checkpoint_of, {**control, "scale": 0.5}),
        "off": edit_of(kind, checkpoint_of, {**control, "scale": 0}),
    }
    made = {name: edited(operator, rows)[0] for name, operator in edits.items()}
    assert made["off"] == made["plain"]
    assert len(set(made.values())) == 3
    assert len({operator_fingerprint(operator) for operator in edits.values()}) == 4
    other = [{**rows[0], "sketch_image": rows[1]["sketch_image"]}, rows[1]]
    assert edited(edits["on"], other)[0] != made["on"]
    # Alone, among others and in another slot.
    assert edited(edits["on"], rows[:1])[0] == made["on"]
    assert edited(edits["on"], [sketched(row, 2), rows[1], rows[0]])[2] == made["on"]


@pytest.mark.parametrize("kind", KINDS)
def test_control_net_is_as_in_diffusers(kind, checkpoint_of, tmp_path, row, monkeypatch):
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    control = save_control(tmp_path, checkpoint_of(kind), kind)
    fields = {"guidance_scale": 1.0, "strength": 0.5, "batch_size": 1}
    operator = edit_of(kind, checkpoint_of, {**control, "scale": 0.7}, **fields)
    model = operator.load()
    item = operator.prepare(sketched(row, 0, mask_image=None), model)
    (made,) = operator.infer([item], model)
    request = item.request
    own = getattr(diffusers, kind.replace("Pipeline", "ControlNetImg2ImgPipeline"))
    pipeline = own.from_pretrained(
        operator.checkpoint, controlnet=diffusers.ControlNetModel.from_pretrained(tmp_path)
    )
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda own, generator: own.mode())
    image, sketch = (
        torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
        for pixels in (request.picture, request.values["sketch"])
    )
    expected = pipeline(
        prompt=request.prompt,
        image=image,
        control_image=sketch,
        height=32,
        width=32,
        strength=0.5,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        controlnet_conditioning_scale=0.7,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
    ).images[0]
    assert np.abs(made.clip(0, 255) / 255 - expected).max() < 1e-3


@pytest.mark.parametrize("method", ["sdedit", "prompt_to_prompt"])
def test_control_net_is_counted(method, checkpoint_of, tmp_path, row):
    control = save_control(tmp_path, checkpoint_of(SD), SD)
    operator = edit_of(SD, checkpoint_of, control, method=method)
    row_ = sketched(row, 0)
    (given,) = ready(operator, [row_], adapters=[control])
    stated = operator.cost(row_, sources_of(stages_before(operator)))
    assert stated.control == stated.forward > 0
    model = operator.load()
    before = model[""].spent.counts()
    operator.run([given] * operator.batch_size, model)
    after = model[""].spent.counts()
    spent = {kind: after[kind] - before.get(kind, 0) for kind in ("forward", "control")}
    assert spent["control"] == spent["forward"] == operator.batch_size * stated.forward


def test_two_control_nets_add_up(checkpoint_of, tmp_path, row):
    first = save_control(tmp_path / "a", checkpoint_of(SD), SD)
    second = save_control(tmp_path / "b", checkpoint_of(SD), SD, seed=4)
    second |= {"condition": "strokes"}
    rows = [sketched(row, 0)]
    both = edit_of(SD, checkpoint_of, first, second)
    one = edit_of(SD, checkpoint_of, first)
    assert edited(both, rows) != edited(one, rows)
    assert both.cost(rows[0], {}) == one.cost(rows[0], {}) + Cost(
        control=one.cost(rows[0], {}).forward
    )
    assert "strokes_image" in {column.name for column in both.inputs}


def test_row_without_the_picture_fails_alone(checkpoint_of, tmp_path, row):
    operator = edit_of(SD, checkpoint_of, save_control(tmp_path, checkpoint_of(SD), SD))
    answers = operator.run([sketched(row, 0), row(1, sketch_image=None)], operator.load())
    assert pixels(answers[0]).shape == (32, 32, 3)
    assert answers[1].code == "sketch_missing"


def test_adapters_of_an_earlier_recipe_keep_their_fields(tmp_path):
    operator = Edit(method="sdedit", adapters=[{"checkpoint": "owner/name", "revision": "a1"}])
    assert identity_fields(operator)["adapters"] == [
        {
            "checkpoint": "owner/name",
            "revision": "a1",
            "file": "pytorch_lora_weights.safetensors",
            "scale": 1.0,
        }
    ]


@pytest.mark.parametrize(
    ("method", "kind"),
    [("transformer", "Flux2KleinPipeline"), ("flow_sdedit", "FluxPipeline")],
)
def test_kind_that_a_method_does_not_take_is_refused(method, kind, checkpoint_of, tmp_path):
    control = save_control(tmp_path, checkpoint_of(SD), SD)
    operator = Edit(method=method, checkpoint=checkpoint_of(kind), adapters=[control])
    with pytest.raises(ValueError, match=r"'controlnet'.* takes lora"):
        operator.check()


def test_control_net_of_another_class_is_refused(checkpoint_of, tmp_path):
    unet = diffusers.UNet2DConditionModel.from_pretrained(checkpoint_of(SD), subfolder="unet")
    unet.save_pretrained(tmp_path)
    control = {"checkpoint": str(tmp_path), "kind": "controlnet"}
    with pytest.raises(ValueError, match="UNet2DConditionModel is no ControlNet"):
        edit_of(SD, checkpoint_of, control).load()


@pytest.mark.parametrize("kind", KINDS)
def test_image_prompt_changes_the_picture_by_the_first_reference(
    kind, checkpoint_of, tmp_path, row
):
    adapter = save_image_prompt(tmp_path, checkpoint_of(kind))
    rows = [row(0), row(1), row(2)]
    edits = {
        "plain": edit_of(kind, checkpoint_of),
        "on": edit_of(kind, checkpoint_of, adapter),
        "half": edit_of(kind, checkpoint_of, {**adapter, "scale": 0.5}),
        "off": edit_of(kind, checkpoint_of, {**adapter, "scale": 0}),
    }
    made = {name: edited(operator, rows)[0] for name, operator in edits.items()}
    assert made["off"] == made["plain"]
    assert len(set(made.values())) == 3
    assert len({operator_fingerprint(operator) for operator in edits.values()}) == 4
    other = {**rows[0], "reference_images": rows[1]["reference_images"]}
    assert edited(edits["on"], [other, *rows[1:]])[0] != made["on"]
    assert edited(edits["on"], rows[:1])[0] == made["on"]
    assert edited(edits["on"], [rows[2], rows[0]])[1] == made["on"]
    stated = edits["on"].cost(rows[0], {})
    assert stated == edits["plain"].cost(rows[0], {}) + Cost(vision=1)
    model = edits["on"].load()
    before = model[""].spent.counts()["vision"]
    edits["on"].run(rows, model)
    assert model[""].spent.counts()["vision"] - before == 3


def test_image_prompt_is_as_in_diffusers(checkpoint_of, tmp_path, row, monkeypatch):
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    adapter = save_image_prompt(tmp_path, checkpoint_of(SD))
    fields = {"guidance_scale": 3.0, "strength": 0.5, "batch_size": 1}
    operator = edit_of(SD, checkpoint_of, {**adapter, "scale": 0.7}, **fields)
    model = operator.load()
    item = operator.prepare(row(0, mask_image=None), model)
    (made,) = operator.infer([item], model)
    request = item.request
    pipeline = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(operator.checkpoint)
    pipeline.unet._load_ip_adapter_weights([_parts(tmp_path)], low_cpu_mem_usage=False)
    pipeline.set_ip_adapter_scale(0.7)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda own, generator: own.mode())
    image = torch.from_numpy(request.picture / np.float32(255)).permute(2, 0, 1)[None]
    seen = model[""].image_prompt.embed(request.values["references"][:1])
    assert not torch.equal(seen, model[""].image_prompt.nothing)
    expected = pipeline(
        prompt=request.prompt,
        image=image,
        strength=0.5,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        ip_adapter_image_embeds=[torch.stack([torch.zeros_like(seen), seen])],
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
    ).images[0]
    assert np.abs(made.clip(0, 255) / 255 - expected).max() < 1e-3


def _parts(folder):
    from safetensors.torch import load_file

    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, weights in load_file(folder / "models" / "ip.safetensors").items():
        part, _, rest = name.partition(".")
        parts[part][rest] = weights
    return parts


class AsTheyAre:
    """An edit of attention that changes nothing, but for the way that layers are computed."""

    def applies(self, site):
        return True

    def __call__(self, site, qkv):
        return qkv


def test_edits_of_attention_see_what_an_image_prompt_adds(checkpoint_of, tmp_path, row):
    operator = edit_of(SD, checkpoint_of, save_image_prompt(tmp_path, checkpoint_of(SD)))
    model = operator.load()
    requests = [operator.prepare(row(n), model).request for n in range(2)]
    batch = Batch(requests, model[""], num_inference_steps=STEPS, walked=range)
    prompts = {"text": batch.prompts(["a", "b"]), "negative": batch.negative_prompts("")}
    edits = AttentionEdits(qkv=[AsTheyAre()])
    usual = batch.predict(batch.noise, batch.steps[1], prompts)
    edited = batch.predict(batch.noise, batch.steps[1], prompts, edits)
    without = {n: p._replace(image_embeds=None) for n, p in prompts.items()}
    nothing = batch.predict(batch.noise, batch.steps[1], without)
    for name in prompts:
        assert torch.allclose(usual[name], edited[name], atol=1e-5)
    assert not torch.allclose(usual["text"], nothing["text"], atol=1e-3)
    assert torch.allclose(usual["negative"], nothing["negative"], atol=1e-5)
