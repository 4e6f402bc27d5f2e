"""Fetching one image: the operator's answer, or the code it fails with."""

import pytest
from overpaint.operators.fetch import Fetch
from overpaint.pipeline.errors import RowError


def fetch(base: object, uri: str, **fields: object) -> dict:
    operator = Fetch(**fields)
    row = {"source_uri": uri, "base_uri": str(base)}
    (answer,) = operator.run([row], operator.load())
    return answer


def failure(base: object, uri: str, **fields: object) -> str:
    with pytest.raises(RowError) as raised:
        fetch(base, uri, **fields)
    return raised.value.code
