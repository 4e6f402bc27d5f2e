import math
import re
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.cluster.worker.batch import Failed, run_batch, run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.errors import RowError, StoppedError
from overpaint.pipeline.operator import Operator, Rejected
from overpaint.pipeline.stage import Stage

NUMBER = Column("number", pa.int64(), "given")
TROUBLE = Column("trouble", pa.string(), "given")
DOUBLE = c.score("double", "twice the number")


class Doubler(Operator[list[Any]]):
    """Doubles; the model is a record of the calls. `trouble` names what goes wrong."""

    kind: ClassVar[Any] = "score"

    batch_size: int = 4

    @property
    def inputs(self):
        return (NUMBER, TROUBLE)

    @property
    def outputs(self):
        return (DOUBLE,)

    def bucket(self, row):
        if row["trouble"] == "unsized":
            raise KeyError("size")
        return row["number"] % 2 if row["trouble"] == "odd and even" else None

    def load(self):
        return []

    def run(self, rows, model):
        model.append([row["number"] for row in rows])
        answers = [self._answer(row, rows) for row in rows]
        return answers[:-1] if any(row["trouble"] == "one answer less" for row in rows) else answers

    def _answer(self, row, rows) -> Any:
        match row["trouble"]:
            case "raise":
                raise ValueError(f"bad {object()!r} of <Thing at 0x7f3a12345678>\nand more")
            case "row error":
                return RowError("too_odd", "the number is odd")
            case "raised row error":
                raise RowError("too_odd", "the number is odd")
            case "exit":
                raise SystemExit("enough")
            case "reject":
                return Rejected("too_small", "nothing to double")
            case "other columns":
                return {"half": 1.0}
            case "text":
                return {"double": "four"}
            case "array":
                return {"double": np.zeros(2)}
            case "nothing":
                return None
            case "numpy":
                return {"double": np.float32(2 * row["number"])}
            case "nan":
                return {"double": math.nan}
            case "no store":
                raise StoppedError("the disk is full")
            case "null":
                return {"double": None}
            case "surrogate":
                raise OSError("cannot open \udcff.png")
            case "empty message":
                raise ZeroDivisionError
        return {"double": 2.0 * row["number"]}


def row(number, trouble=None, **more):
    return {"number": number, "trouble": trouble, **more}


def answers(*rows, **fields):
    calls: list[Any] = []
    return run_batch(LoadedOperator(Doubler(**fields), calls), rows), calls


def test_batch_shorter_than_its_shape_holds_only_its_rows():
    found, calls = answers(row(1), row(2))
    assert found == [{"double": 2.0}, {"double": 4.0}]
    assert calls == [[1, 2]]


@pytest.mark.parametrize("trouble", ["row error", "reject", "nan", "text", "other columns"])
def test_batch_with_a_row_that_cannot_be_done_is_called_once(trouble):
    found, calls = answers(row(1), row(2, trouble), row(3), row(4))
    assert isinstance(found[1], Failed | Rejected)
    assert [found[0], *found[2:]] == [{"double": 2.0}, {"double": 6.0}, {"double": 8.0}]
    assert calls == [[1, 2, 3, 4]]


@pytest.mark.parametrize("trouble", ["raise", "raised row error"])
def test_batch_that_raises_is_split_until_the_row_is_alone(trouble):
    found, calls = answers(row(1), row(2, trouble), row(3), row(4))
    code = "too_odd" if trouble == "raised row error" else "value_error"
    assert [getattr(outcome, "code", None) for outcome in found] == [None, code, None, None]
    assert calls == [[1, 2, 3, 4], [1, 2], [1], [2], [3, 4]]


def test_batch_row_error_is_an_answer():
    found, _ = answers(row(1), row(2, "row error"), row(3), row(4))
    assert found == [
        {"double": 2.0},
        Failed("too_odd", "the number is odd"),
        {"double": 6.0},
        {"double": 8.0},
    ]


@given(st.lists(st.sampled_from([None, "raise", "reject", "exit", "text"]), min_size=1, max_size=8))
def test_batch_answers_each_row_as_if_it_were_alone(troubles):
    rows = [row(index, trouble) for index, trouble in enumerate(troubles)]
    together, _ = answers(*rows, batch_size=8)
    assert together == [answers(one, batch_size=8)[0][0] for one in rows]


@pytest.mark.parametrize(
    ("trouble", "code", "message"),
    [
        ("exit", "system_exit", "SystemExit: enough"),
        ("one answer less", "bad_answer", "0 answers for 1 rows"),
        ("other columns", "bad_answer", "the columns ['half'] are not the outputs ['double']"),
        ("text", "bad_answer", "double is a str and should be double"),
        ("array", "bad_answer", "double is a ndarray and should be double"),
        ("nan", "nan_in_result", "double is not a number"),
        ("nothing", "bad_answer", "a NoneType instead of columns, Rejected or RowError"),
        ("empty message", "zero_division_error", "ZeroDivisionError"),
    ],
)
def test_batch_row_that_breaks_the_contract_fails_alone(trouble, code, message):
    found, _ = answers(row(1), row(2, trouble), row(3))
    assert found == [{"double": 2.0}, Failed(code, message), {"double": 6.0}]


def test_batch_answers_that_arrow_can_hold_are_taken():
    found, _ = answers(row(1, "numpy"), row(2, "null"))
    assert found == [{"double": 2.0}, {"double": None}]


def test_batch_message_has_no_address_and_one_line_and_is_equal_each_time():
    first, _ = answers(row(1, "raise"))
    second, _ = answers(row(1, "raise"))
    assert first == second
    (failed,) = first
    assert isinstance(failed, Failed)
    assert failed.code == "value_error"
    assert not re.search(r"0x[0-9a-f]{3}", failed.message)
    assert "and more" not in failed.message


def test_batch_message_is_text_that_a_manifest_can_hold():
    (failed,), _ = answers(row(1, "surrogate"))
    assert isinstance(failed, Failed)
    pa.array([failed.message], pa.string())


def test_batch_lets_a_store_that_takes_nothing_stop_the_run():
    with pytest.raises(StoppedError):
        answers(row(1), row(2, "no store"))


def test_batch_lets_an_interrupt_through():
    class Interrupted(Doubler):
        def run(self, rows, model):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(LoadedOperator(Interrupted(), []), [row(1)])


def staged(*rows, **fields):
    calls: list[Any] = []
    stage = Stage(operator=Doubler(**fields), name="double")
    ran = run_stages([stage], {"double": LoadedOperator(stage.operator, calls)}, rows)
    return ran.rows, calls


def test_stages_rows_with_equal_inputs_share_one_answer():
    rows = [row(1, key="a"), row(2, key="b"), row(1, key="c"), row(1, key="d")]
    found, calls = staged(*rows)
    assert calls == [[1, 2]]
    assert [(one["key"], one["double"]) for one in found] == [
        ("a", 2.0),
        ("b", 4.0),
        ("c", 2.0),
        ("d", 2.0),
    ]


def test_stages_rows_with_equal_inputs_share_a_failure_too():
    found, calls = staged(row(1, "row error", key="a"), row(1, "row error", key="b"))
    assert [one["error_code"] for one in found] == ["too_odd", "too_odd"]
    assert len(calls) == 1


def test_stages_rows_that_have_ended_pass_untouched():
    ended = row(1, status="failed", stage="fetch", error_code="x", error_message="y")
    found, calls = staged(ended, row(2))
    assert found[0] == ended
    assert found[1]["double"] == 4.0
    assert calls == [[2]]


def test_stages_without_a_living_row_call_no_model():
    found, calls = staged(row(1, status="failed"))
    assert (found, calls) == ([row(1, status="failed")], [])


def test_stages_say_how_a_row_ended():
    found, _ = staged(row(1, "reject"), row(2, "row error"), row(3))
    ending = ("status", "stage", "error_code", "error_message")
    assert [tuple(one.get(name) for name in ending) for one in found] == [
        ("rejected", "double", "too_small", "nothing to double"),
        ("failed", "double", "too_odd", "the number is odd"),
        (None, None, None, None),
    ]


def test_stages_batches_hold_rows_of_one_bucket():
    rows = [row(number, "odd and even") for number in range(9)]
    found, calls = staged(*rows)
    assert calls == [[0, 2, 4, 6], [8], [1, 3, 5, 7]]
    assert [one["double"] for one in found] == [2.0 * number for number in range(9)]


def test_stages_row_whose_bucket_raises_fails_alone():
    found, calls = staged(row(1), row(2, "unsized"), row(3))
    assert calls == [[1, 3]]
    assert found[1]["error_code"] == "key_error"
    assert [found[0]["double"], found[2]["double"]] == [2.0, 6.0]


def test_stages_leave_the_given_rows_as_they_were():
    given_row = row(1)
    staged(given_row)
    assert given_row == row(1)
