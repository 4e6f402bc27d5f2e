"""LoRAs of a judge: a real one, saved by PEFT, of a tiny model with random weights."""

import json
from pathlib import Path

import pytest
import torch
from overpaint.operators.judge import Judge
from overpaint.pipeline.identity import operator_fingerprint
from pydantic import ValidationError
from running import outcomes
from transformers import AutoModelForImageTextToText


def save_lora(judge, folder, seed, targets=("q_proj", "v_proj"), **fields):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForImageTextToText.from_pretrained(judge)
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=4, target_modules=targets, **fields))
    generator = torch.Generator().manual_seed(seed)
    for name, weights in model.named_parameters():
        if "lora_" in name:
            weights.data = torch.randn(weights.shape, generator=generator)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def loras(judge, tmp_path_factory):
    return [save_lora(judge, tmp_path_factory.mktemp("lora"), seed) for seed in range(2)]


def judge_with(judge, *adapters):
    return Judge(checkpoint=judge, adapters=adapters, max_new_tokens=8, prompt="{instruction}")


def logits(operator, noise):
    """Logits of a fixed question, by the model that the operator loads."""
    operator.check()
    model = operator.load()
    asked = operator.prepare(
        {"source_image": noise(1), "edited_image": noise(2), "instruction": "make it red"}, model
    )
    with torch.inference_mode():
        return model.model(**asked.questions[0]).logits


def test_merged_lora_is_what_peft_computes(judge, loras, noise):
    from peft import PeftModel

    base = AutoModelForImageTextToText.from_pretrained(judge).eval()
    plain = logits(judge_with(judge), noise)
    adapted = logits(judge_with(judge, {"checkpoint": loras[0]}), noise)
    half = logits(judge_with(judge, {"checkpoint": loras[0], "scale": 0.5}), noise)
    both = logits(judge_with(judge, {"checkpoint": loras[0]}, {"checkpoint": loras[1]}), noise)
    operator = judge_with(judge)
    asked = operator.prepare(
        {"source_image": noise(1), "edited_image": noise(2), "instruction": "make it red"},
        operator.load(),
    )
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(base, loras[0]).eval()(**asked.questions[0]).logits
    torch.testing.assert_close(adapted, expected, atol=1e-3, rtol=1e-3)
    found = (plain, adapted, half, both)
    for place, one in enumerate(found):
        assert not any(torch.allclose(one, other, atol=1e-2) for other in found[:place])


def test_adapter_of_scale_0_leaves_every_bit(judge, loras, noise):
    none = judge_with(judge, {"checkpoint": loras[0], "scale": 0.0})
    assert torch.equal(logits(none, noise), logits(judge_with(judge), noise))


def test_weights_and_scale_of_an_adapter_are_in_the_key(judge, loras, tmp_path):
    judges = [
        judge_with(judge),
        judge_with(judge, {"checkpoint": loras[0]}),
        judge_with(judge, {"checkpoint": loras[1]}),
        judge_with(judge, {"checkpoint": loras[0], "scale": 0.5}),
    ]
    assert len({operator_fingerprint(each) for each in judges}) == len(judges)
    assert len({str(each.revisions()) for each in judges}) == len(judges)


def test_judge_with_an_adapter_answers_rows(judge, loras, noise):
    rows = [{"source_image": noise(1), "edited_image": noise(2), "instruction": "make it red"}]
    (plain,) = outcomes(judge_with(judge), rows)
    (adapted,) = outcomes(judge_with(judge, {"checkpoint": loras[0]}), rows)
    assert plain["lmm_reply"] != adapted["lmm_reply"]


def test_folders_that_hold_no_lora_are_refused_before_anything_starts(judge, loras, tmp_path):
    with pytest.raises(ValueError, match=r"no file 'adapter_config\.json'"):
        judge_with(judge, {"checkpoint": str(tmp_path)}).check()
    config = json.loads((Path(loras[0]) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is IA3, not a LORA"):
        judge_with(judge, {"checkpoint": str(tmp_path)}).check()
    with pytest.raises(ValidationError, match="adapters is for a model here"):
        Judge(
            endpoint="http://localhost/v1",
            request={"model": "m"},
            adapters=[{"checkpoint": loras[0]}],
        )


def test_adapter_that_replaces_whole_modules_has_no_scale(judge, tmp_path):
    folder = save_lora(judge, tmp_path, 3, modules_to_save=["lm_head"])
    judge_with(judge, {"checkpoint": folder}).check()
    with pytest.raises(ValueError, match="replaces 'lm_head' as a whole"):
        judge_with(judge, {"checkpoint": folder, "scale": 0.5}).check()


def test_adapter_with_layers_that_the_model_lacks_is_refused(judge, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(save_lora(judge, tmp_path, 4))
    weights = load_file(folder / "adapter_model.safetensors")
    renamed = {name.replace("layers.1", "layers.7"): own for name, own in weights.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="is of another model"):
        judge_with(judge, {"checkpoint": str(folder)}).load()
