"""Sizes of an input's sources, by some of them."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from overpaint.operators.fetch import Fetch
from overpaint.pipeline.errors import OverpaintError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.storage.store import size_bytes
from overpaint.pipeline.storage.uris import join

_NUM_THREADS = 16
_WEB = ("http://", "https://")


def mean_bytes(run_input: Input) -> float | None:
    """Returns the mean size of some dozens of sources, spread over an input; None where unknown."""
    sources = run_input.survey.sample
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        sizes = list(pool.map(partial(_size, run_input.base_uri), sources))
    known = [size for size in sizes if size is not None]
    return sum(known) / len(known) if known else None


def num_conditions(plan: Plan) -> int:
    """Returns how many pictures a plan reads beside each source."""
    fetches = [one.operator for one in plan.stages if isinstance(one.operator, Fetch)]
    return sum(len(fetch.conditions) for fetch in fetches)


def _size(base_uri: str, source: str) -> int | None:
    uri = join(base_uri, source)
    if uri.startswith(_WEB):
        return None
    try:
        return size_bytes(uri)
    except (OSError, OverpaintError):
        return None
