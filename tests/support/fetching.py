"""Fetching one image: the operator's answer, or the code it fails with."""

from overpaint.operators.fetch import Fetch
from running import failure_code, outcomes


def fetch(base: object, uri: str, **fields: object) -> dict:
    (answer,) = outcomes(Fetch(**fields), [{"source_uri": uri, "base_uri": str(base)}])
    assert isinstance(answer, dict), answer
    return answer


def failure(base: object, uri: str, **fields: object) -> str:
    return failure_code(Fetch(**fields), {"source_uri": uri, "base_uri": str(base)})
