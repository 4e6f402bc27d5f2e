"""Operations of transformer editors: those that are counted are those that a row's edit spends."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from overpaint.operators.diffusion.flops import flops_of
from overpaint.operators.diffusion.meta_networks import Sight
from overpaint.operators.edit import Edit
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SIDE_PX = 64
QUICK = ["Flux2KleinPipeline", "QwenImageEditPlusPipeline"]
OTHERS = [
    "Flux2Pipeline",
    "Flux2KleinInpaintPipeline",
    "FluxKontextPipeline",
    "FluxFillPipeline",
    "FluxKontextInpaintPipeline",
    "QwenImageEditPipeline",
    "QwenImageEditInpaintPipeline",
    "LongCatImageEditPipeline",
]
PADDED_TO = {"Flux2KleinPipeline": 512, "Flux2Pipeline": 512, "FluxFillPipeline": 512}


@contextmanager
def counting(module):
    """Yields the operations and the tokens of the prompt of each call of a transformer."""
    calls, forward = [], module.forward

    def counted(*args, **options):
        # PyTorch's counter knows no attention that is fused on a CPU.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            out = forward(*args, **options)
        calls.append((counter.get_total_flops(), options["encoder_hidden_states"].shape[1]))
        return out

    module.forward = counted
    try:
        yield calls
    finally:
        del module.forward


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_operations_are_those_of_every_call_of_a_row(kind, checkpoint_of, row, monkeypatch):
    if kind.startswith("LongCat"):  # the pipeline would make one megapixel of it
        from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit as module

        monkeypatch.setattr(module, "calculate_dimensions", lambda *_: (SIDE_PX, SIDE_PX))
    operator = Edit(
        method="transformer",
        checkpoint=checkpoint_of(kind),
        num_inference_steps=2,
        resolution=SIDE_PX,
        batch_size=1,
    )
    given = row(1, height=SIDE_PX, width=SIDE_PX) | {"reference_images": None}
    model = operator.load()
    with counting(model[""].pipeline.transformer) as calls:
        (answer,) = operator.run([given], model)
    assert isinstance(answer, dict), answer
    assert len(calls) == operator.cost(given, {}).forward
    sight = Sight(operator.own.framed.resolution, operator.own.num_pictures)
    for spent, tokens in calls:
        counted = flops_of(operator.weights, replace(sight, prompt_tokens=tokens))
        assert counted["forward"] == spent
        assert PADDED_TO.get(kind, tokens) == tokens
    if kind in PADDED_TO:
        assert flops_of(operator.weights, sight)["forward"] == calls[0][0]
