"""Methods on a GPU: rows among neighbours, the memory ladder, passes that repeat.

The property tests beside this file run on a GPU too where there is one; these hold for it alone.
"""

import pytest
import torch
from method_cases import CASES, make, ready
from overpaint.operators.diffusion import latent_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def run(operator, rows):
    model = operator.load()
    answers = operator.run(ready(operator, rows), model)
    return [answer["edited_image"] for answer in answers]


@pytest.mark.parametrize("case", CASES)
def test_row_has_the_bytes_that_it_has_alone(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    rows = [row(number) for number in range(4)]
    (alone,) = run(operator, rows[:1])
    assert run(operator, [rows[2], rows[0], rows[3]])[1] == alone
    assert run(operator, rows[:2])[0] == alone


@pytest.mark.parametrize("case", CASES)
def test_edit_repeats_to_the_byte(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    rows = [row(number) for number in range(3)]
    assert run(operator, rows) == run(operator, rows)


@pytest.mark.parametrize("case", ["sdedit-StableDiffusionPipeline", "dds-StableDiffusionPipeline"])
def test_offloaded_parts_give_equal_bytes(case, checkpoint_of, row):
    operator = make(case, checkpoint_of)
    rows = [row(number) for number in range(3)]
    before = run(operator, rows)
    latent_model.load_latent_model.cache_clear()
    model = operator.load()
    assert operator.free_memory(model, exact=True) == "offload"
    assert run(operator, rows) == before
    latent_model.load_latent_model.cache_clear()
