"""Caches of steps and kernels of attention: what each class takes, and rows that stay alone."""

import diffusers
import pytest
from overpaint.operators.diffusion import speed
from overpaint.operators.edit import Edit
from overpaint.operators.models.attention_backends import ATTENTION_BACKENDS
from overpaint.operators.pipelines import PIPELINES, editor_of
from overpaint.pipeline.identity import operator_fingerprint

KLEIN, PLUS, KONTEXT = "Flux2KleinPipeline", "QwenImageEditPlusPipeline", "FluxKontextPipeline"
QUICK = [(KLEIN, "mag"), (KLEIN, "pyramid_attention_broadcast"), (KONTEXT, "taylorseer")]
RATIOS = (1.0, 1.02, 1.01, 0.99, 0.98)
SIDE_PX, STEPS = 64, 5


def taken():
    """Every class with each cache that it takes, but for what other tests have."""
    for name in PIPELINES.names():
        call = PIPELINES.find(name)
        for kind in call.classes:
            yield from ((kind, cache) for cache in call.caches if (kind, cache) not in QUICK)


def editor(kind, checkpoint_of, **fields):
    given = {"num_inference_steps": STEPS, "resolution": SIDE_PX, "batch_size": 2, **fields}
    return Edit(method="transformer", checkpoint=checkpoint_of(kind), **given)


def edited(operator, rows):
    return [answer["edited_image"] for answer in operator.run(rows, operator.load())]


@pytest.mark.parametrize(
    ("kind", "cache"), [*QUICK, *(pytest.param(*it, marks=pytest.mark.slow) for it in taken())]
)
def test_cache_changes_the_picture_and_keeps_rows_apart(kind, cache, checkpoint_of, row):
    fields = {"guidance_scale": 1.0, "batch_size": 1 if cache == "first_block" else 2}
    own = {"cache": cache, "mag_ratios": RATIOS if cache == "mag" else ()}
    operator = editor(kind, checkpoint_of, **fields, **own)
    operator.check()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    one, other = edited(operator, rows)
    assert edited(operator, rows[::-1]) == [other, one]
    assert edited(operator, rows[:1]) == [one]
    plain = editor(kind, checkpoint_of, **fields)
    assert operator_fingerprint(plain) != operator_fingerprint(operator)
    if cache in speed.FIXED_SCHEDULES:
        assert edited(plain, rows[:1]) != [one]


def test_cache_starts_anew_after_a_call_that_failed(checkpoint_of, row):
    operator = editor(KLEIN, checkpoint_of, cache="taylorseer")
    model = operator.load()
    rows = [row(0, height=SIDE_PX, width=SIDE_PX)]
    (expected,) = edited(operator, rows)
    layer = model[""].pipeline.transformer.proj_out
    calls = []

    def fail_at_third(*_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    hook = layer.register_forward_pre_hook(fail_at_third)
    with pytest.raises(RuntimeError, match="out of memory"):
        operator.run(rows, model)
    hook.remove()
    assert edited(operator, rows) == [expected]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (KLEIN, {"cache": "first_block"}, "a Flux2KleinPipeline takes taylorseer, mag"),
        (KLEIN, {"cache": "mag"}, "needs mag_ratios"),
        (KLEIN, {"mag_ratios": RATIOS}, "by cache = 'mag' alone"),
        (KLEIN, {"cache": "faster"}, "no FasterCache for pictures"),
        (KLEIN, {"cache": "text_kv"}, "no TextKVCache for pictures"),
        (PLUS, {"cache": "pyramid_attention_broadcast"}, "mix the branches of guidance"),
        ("JoyImageEditPipeline", {"speed": "draft"}, "a JoyImageEditPipeline takes none"),
        (
            "Flux2KleinInpaintPipeline",
            {"cache": "mag", "mag_ratios": RATIOS, "strength": 0.5},
            "those of all steps",
        ),
    ],
)
def test_cache_that_does_not_work_is_refused_by_name(kind, fields, message, checkpoint_of):
    with pytest.raises(ValueError, match=message):
        editor(kind, checkpoint_of, **fields).check()


def test_caches_are_those_of_the_installed_diffusers():
    theirs = {name for name in dir(diffusers) if name.endswith(("CacheConfig", "BroadcastConfig"))}
    known = {
        "TaylorSeerCacheConfig",
        "MagCacheConfig",
        "PyramidAttentionBroadcastConfig",
        "FirstBlockCacheConfig",
        "SeaCacheConfig",
        "FasterCacheConfig",
        "TextKVCacheConfig",
    }
    assert theirs == known


@pytest.mark.parametrize("kind", [KLEIN, KONTEXT])
def test_attention_backend_is_in_the_key_and_of_one_model(kind, checkpoint_of, row):
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as registry

    usual, _ = registry.get_active_backend()
    operator = editor(kind, checkpoint_of, attention_backend="_native_math")
    operator.check()
    rows = [row(number, height=SIDE_PX, width=SIDE_PX) for number in range(2)]
    one, other = edited(operator, rows)
    assert edited(operator, rows[::-1]) == [other, one]
    assert registry.get_active_backend()[0] == usual
    block = operator.load()[""].pipeline.transformer.transformer_blocks[0]
    assert block.attn.processor._attention_backend == "_native_math"
    plain = editor(kind, checkpoint_of)
    assert operator_fingerprint(plain) != operator_fingerprint(operator)


def test_attention_backends_are_those_of_the_installed_diffusers():
    from diffusers.models.attention_dispatch import AttentionBackendName

    theirs = {it.value for it in AttentionBackendName if not it.value.endswith("_hub")}
    assert set(ATTENTION_BACKENDS) == theirs


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flash_hub", "would run code that is fetched from the hub"),
        ("_flash_3_hub", "would run code that is fetched from the hub"),
        ("native_math", "did you mean '_native_math'"),
        ("flash", "needs the module flash_attn"),
        ("sage", "needs the module sageattention"),
    ],
)
def test_attention_backend_that_is_not_there_is_refused(name, message, checkpoint_of):
    with pytest.raises(ValueError, match=message):
        editor(KLEIN, checkpoint_of, attention_backend=name).check()


def test_attention_backend_without_kernels_here_is_refused_by_the_actor(checkpoint_of):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU has them")
    with pytest.raises(ValueError, match="no kernels for a CPU"):
        editor(KLEIN, checkpoint_of, attention_backend="_native_cudnn").load()


def test_names_at_rest_are_in_no_key(checkpoint_of):
    plain = editor(KLEIN, checkpoint_of)
    named = editor(KLEIN, checkpoint_of, attention_backend="", mag_ratios=())
    assert operator_fingerprint(plain) == operator_fingerprint(named)
    assert editor_of(KLEIN) == "flux2_klein"
