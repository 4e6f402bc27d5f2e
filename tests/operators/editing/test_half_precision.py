"""Half precision: every method works in it, on a CPU or a GPU, or is refused with a sentence."""

import numpy as np
import pytest
import torch
from method_cases import CASES, make, pixels, ready

FIRST = list({case.partition("-")[0]: case for case in reversed(CASES)}.values())
DTYPES = ["bfloat16", *(["float16"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("case", sorted(FIRST))
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_works_or_is_refused(case, dtype, checkpoint_of, row):
    operator = make(case, checkpoint_of, dtype=dtype)
    try:
        operator.check()
    except ValueError as error:
        assert dtype in str(error)  # noqa: PT017  a refusal is one of the two right answers
        return
    rows = ready(operator, [row(number) for number in range(2)])
    answers = operator.run(rows, operator.load())
    for answer, before in zip(answers, rows, strict=True):
        assert pixels(answer).shape == (before["height_px"], before["width_px"], 3)
        assert np.ptp(pixels(answer)) > 0
