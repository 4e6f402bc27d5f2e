"""What an operator whose model sees batches of one shape answers, and what bad rows cost it."""

import math
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from overpaint.operators.score import Score
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.operator import ModelOperator, Rejected
from running import outcomes

NUMBER = Column("number", pa.float64(), "what a row holds")
DOUBLE = c.score("double", "twice the number")


class Doubler(ModelOperator[list[Any], float, float]):
    """Doubles; the model is a record of its calls."""

    kind: ClassVar[Any] = "score"

    batch_size: int = 8

    @property
    def inputs(self):
        return (NUMBER,)

    @property
    def outputs(self):
        return (DOUBLE,)

    def load(self):
        return []

    def prepare(self, row, model):
        if row["number"] is None:
            raise RowError("no_number", "the row has no number")
        return row["number"]

    def infer(self, inputs, model):
        model.append(list(inputs))
        if -1.0 in inputs:
            raise ValueError("the model knows no -1")
        return [2 * number for number in inputs]

    def answer(self, row, number, double, model):
        if math.isnan(double):
            raise RowError("nan_in_result", "the double is not a number")
        return Rejected("too_small", "nothing to double") if double == 0 else {"double": double}


def codes(found: list[Any]) -> list[str | None]:
    return [getattr(outcome, "code", None) for outcome in found]


def test_bad_rows_of_a_batch_cost_one_call_of_full_shape():
    calls: list[Any] = []
    numbers = [1.0, None, 3.0, math.nan, 5.0, 0.0, 7.0, 8.0]
    found = outcomes(Doubler(), [{"number": number} for number in numbers], calls)
    assert codes(found) == [
        *(None, "no_number", None, "nan_in_result"),
        *(None, "too_small", None, None),
    ]
    assert [outcome["double"] for outcome in found if isinstance(outcome, dict)] == [
        *(2.0, 6.0, 10.0, 14.0, 16.0)
    ]
    (call,) = calls
    assert len(call) == 8


def test_batch_of_rows_that_cannot_be_prepared_calls_no_model():
    calls: list[Any] = []
    assert codes(outcomes(Doubler(), [{"number": None}] * 3, calls)) == ["no_number"] * 3
    assert calls == []


def test_batch_that_breaks_the_model_is_split_and_every_call_is_full():
    calls: list[Any] = []
    found = outcomes(Doubler(), [{"number": float(n)} for n in (1, 2, -1, 4)], calls)
    assert codes(found) == [None, None, "value_error", None]
    assert {len(call) for call in calls} == {8}


def noisy(number: int, noise) -> dict[str, Any]:
    words = {"source_prompt": "red circle", "target_prompt": "blue circle"}
    return {"source_image": noise(number), "edited_image": noise(number + 20), **words}


def test_bad_rows_of_a_real_model_cost_one_call_and_leave_the_others_their_bytes(
    clip, noise, monkeypatch
):
    operator = Score(checkpoint=clip, batch_size=8)
    model = operator.load()
    rows = [noisy(number, noise) for number in range(8)]
    expected = outcomes(operator, rows, model)
    rows[1]["source_image"] = b"no image"  # undecodable
    rows[4]["edited_image"] = encode(Picture(decode(noise(5)).rgb[:9]))  # refused: another size
    features, asked = model.model.get_image_features, []

    def image_features(pixel_values):
        asked.append(len(pixel_values))
        found = features(pixel_values=pixel_values)
        if len(asked) == 1:
            found.pooler_output[5] = math.nan  # of the last row: two before it are not asked
        return found

    monkeypatch.setattr(model.model, "get_image_features", image_features)
    found = outcomes(operator, rows, model)
    assert codes(found) == [
        *(None, "image_unreadable", None, None),
        *("edited_size", None, None, "clip_not_finite"),
    ]
    assert asked == [8, 8]  # one call for the sources, one for the edited images
    assert [found[i] for i in (0, 2, 3, 5, 6)] == [expected[i] for i in (0, 2, 3, 5, 6)]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_are_the_operators_while_it_runs_and_as_before_afterwards(clip, num_threads):
    import torch

    seen = []

    class Watching(Score):
        def load(self):
            seen.append(torch.get_num_threads())
            return super().load()

        def prepare(self, row, model):
            return None

        def infer(self, inputs, model):
            seen.append(torch.get_num_threads())
            raise RowError("enough", "seen")

    before = torch.get_num_threads()
    outcomes(Watching(checkpoint=clip, num_threads=num_threads), [{}])
    assert seen == [num_threads, num_threads]
    assert torch.get_num_threads() == before
