"""What is done before a row fails for lack of device memory."""

import subprocess
import sys
from typing import Any, ClassVar

import pyarrow as pa
import pytest
import torch
from overpaint.cluster.worker.batch import Failed, run_batch
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.operator import ModelOperator

SIZE = Column("size", pa.int64(), "what a row needs")
DOUBLE = c.score("double", "twice the size")


class Hungry(ModelOperator[dict[str, Any], int, float]):
    """Needs the memory of every row of its batch; a fixed part of it can go elsewhere."""

    kind: ClassVar[Any] = "score"

    batch_size: int = 4

    @property
    def inputs(self):
        return (SIZE,)

    @property
    def outputs(self):
        return (DOUBLE,)

    def load(self):
        return {"memory": 10, "weights": 4, "slices": False, "calls": []}

    def prepare(self, row, model):
        return row["size"]

    def infer(self, sizes, model):
        model["calls"].append(len(sizes))
        needed = max(sizes) if model["slices"] else sum(sizes)
        if model["weights"] + needed > model["memory"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [2.0 * size for size in sizes]

    def answer(self, row, size, double, model):
        return {"double": double}

    def free_memory(self, model, *, exact):
        if exact and model["weights"]:
            model["weights"] = 0
            return "offload"
        return None


class Slicing(Hungry):
    """Can also do with less, inexactly."""

    def free_memory(self, model, *, exact):
        fallback = super().free_memory(model, exact=exact)
        if fallback is None and not exact and not model["slices"]:
            model["slices"] = True
            return "slices"
        return fallback


def answered(operator, *sizes, **options):
    loaded = LoadedOperator(operator, operator.load(), **options)
    return run_batch(loaded, [{"size": size} for size in sizes]), loaded


def test_enough_memory_needs_no_fallback():
    found, loaded = answered(Hungry(), 1, 1, 1, 1)
    assert [answer["double"] for answer in found] == [2.0] * 4
    assert loaded.oom_fallbacks == []


def test_exact_fallbacks_come_first_and_keep_the_batch_shape():
    found, loaded = answered(Hungry(), 2, 2, 2, 2)
    assert [answer["double"] for answer in found] == [4.0] * 4
    assert loaded.oom_fallbacks == ["empty_cache", "offload"]
    assert set(loaded.model["calls"]) == {4}


def test_fallbacks_stay_in_force():
    _, loaded = answered(Hungry(), 2, 2, 2, 2)
    run_batch(loaded, [{"size": 2}] * 4)
    assert loaded.oom_fallbacks == ["empty_cache", "offload"]


def test_rows_fail_rather_than_change_a_byte():
    found, loaded = answered(Hungry(), 3, 3, 3, 3)
    assert {type(answer) for answer in found} == {Failed}
    assert {answer.code for answer in found} == {"out_of_memory_error"}
    assert loaded.oom_fallbacks == ["empty_cache", "offload"]
    assert set(loaded.model["calls"]) == {4}


def test_smaller_batches_where_the_recipe_allows_them():
    found, loaded = answered(Hungry(), 4, 4, 4, allow_inexact=True)
    assert [answer["double"] for answer in found] == [8.0] * 3
    assert loaded.oom_fallbacks == ["empty_cache", "offload", "batch_size=2"]
    assert loaded.operator.batch_size == 2


def test_the_operators_own_ways_come_before_smaller_batches():
    found, loaded = answered(Slicing(), 3, 3, 3, 3, allow_inexact=True)
    assert [answer["double"] for answer in found] == [6.0] * 4
    assert loaded.oom_fallbacks == ["empty_cache", "offload", "slices"]


def test_row_that_no_fallback_helps_fails_alone():
    found, loaded = answered(Hungry(), 4, 11, 4, 4, allow_inexact=True)
    assert [type(answer) is Failed for answer in found] == [False, True, False, False]
    assert loaded.oom_fallbacks[-1] == "batch_size=1"


@pytest.mark.parametrize("error", [MemoryError("x"), ValueError("a memory of summer")])
def test_other_errors_have_no_fallback(error):
    class Failing(Hungry):
        def infer(self, sizes, model):
            raise error

    found, loaded = answered(Failing(), 1)
    assert isinstance(found[0], Failed)
    assert loaded.oom_fallbacks == []


HANGING = """
import time
from overpaint.cluster.worker.lane import Lane
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.operators.negative import Negative
from overpaint.pipeline.images import Picture, encode
import numpy as np

source = encode(Picture(np.zeros((4, 4, 3), np.uint8)))
row = {"source_image": source, "image_format": "png"}
quick = LoadedOperator(Negative(batch_size=2), None, row_timeout_s=60)
quick.run([row], Lane())
print("the quick one is done", flush=True)
hangs = LoadedOperator(Negative(batch_size=2, batch_ms=3_600_000), None, row_timeout_s=0.2)
hangs.run([row, row], Lane())
"""


def test_model_that_does_not_come_back_ends_its_process():
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True)
    assert ended.returncode == 70
    assert ended.stdout == "the quick one is done\n"
    assert "a batch of Negative took longer than 0.4 s" in ended.stderr
