"""Estimate of a run's work and price, from its plan, its checkpoints' shapes and some sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.operators.diffusion.flops import Flops, flops_of
from overpaint.operators.diffusion.meta_networks import Sight
from overpaint.operators.diffusion.method import Method
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.sizes import SizeCounter

GPUS: Mapping[str, float] = {
    "T4": 65.0,
    "L4": 121.0,
    "L40S": 362.0,
    "A100": 312.0,
    "H100": 989.0,
    "H200": 989.0,
    "B200": 2250.0,
}
"""Dense half-precision peak of GPUs, in TFLOP/s, as their maker gives it."""
REACHED = 1 / 3
"""Share of the peak that diffusers' pipelines reach without a compiler, by published figures."""
PRICES: Mapping[str, str] = {
    "gpu": "an hour of a GPU",
    "requests": "1,000 requests that write",
    "reads": "1,000 requests that read",
    "storage": "a GiB on the store for a month",
}
"""Things that can have a price."""


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of a run.

    Attributes:
        tflop: operations of the evaluations that are counted, in 10^12.
        uncounted: evaluations whose network has no count, by stage.
    """

    tflop: float
    uncounted: Mapping[str, Cost]

    def gpu_hours(self, kind: str) -> float:
        """Returns the hours that a GPU of some kind takes, at `REACHED` of its peak."""
        return self.tflop / (GPUS[kind] * REACHED) / 3600


def work_of(plan: Plan, costs: Mapping[str, Cost]) -> Work:
    """Counts the operations of a plan's evaluations by the shapes of its checkpoints.

    Args:
        plan: plan of the run.
        costs: evaluations of each stage, by its name.
    """
    tflop, uncounted = 0.0, dict[str, Cost]()
    for stage in plan.stages:
        counts = costs[stage.name].counts()
        weights = getattr(stage.operator, "weights", None)
        flops: Flops = {}
        if counts and isinstance(weights, Checkpoint):
            flops = flops_of(weights, _sight(stage.operator))
        tflop += sum(number * flops.get(kind, 0.0) for kind, number in counts.items()) / 1e12
        missing = {kind: number for kind, number in counts.items() if kind not in flops}
        if missing:
            uncounted[stage.name] = Cost(**missing)
    return Work(tflop, uncounted)


def _sight(operator: Operator[Any]) -> Sight | None:
    """Returns what the networks of an edit see of a row; None for other operators."""
    method = getattr(operator, "own", None)
    if not isinstance(method, Method):
        return None
    return Sight(method.framed.resolution, method.num_pictures)


def parse_prices(text: str) -> dict[str, float]:
    """Reads prices such as `gpu=2.5,requests=0.005`.

    Raises:
        UsageError: a thing has no price, or a price is no number.
    """
    prices = dict[str, float]()
    for entry in filter(None, text.split(",")):
        name, _, value = entry.partition("=")
        if name not in PRICES:
            raise UsageError(f"--price {entry}: no such thing: {near_miss(name, PRICES)}")
        try:
            prices[name] = float(value)
        except ValueError as error:
            raise UsageError(f"--price {entry}: write {name}=NUMBER") from error
    return prices


def check_gpu(kind: str) -> None:
    """Checks that a kind of GPU is known.

    Raises:
        UsageError: it is not.
    """
    if kind not in GPUS:
        raise UsageError(f"--gpu {kind}: no such kind: {near_miss(kind, GPUS)}")


def money(
    prices: Mapping[str, float],
    sizes: SizeCounter,
    *,
    gpu_hours: float | None,
    written_gib: float | None,
) -> list[tuple[str, float]]:
    """Returns what a run costs, by the thing that is paid for; things of unknown size are left out.

    Args:
        prices: price of each thing in `PRICES`.
        sizes: counts of the run.
        gpu_hours: hours of GPUs; None where they are not known.
        written_gib: size of what stays on the store; None where it is not known.
    """
    amounts: dict[str, float | None] = {
        "gpu": gpu_hours,
        "requests": sizes.num_writes / 1000,
        "reads": sizes.num_reads / 1000,
        "storage": written_gib,
    }
    known = {name: amount for name in prices if (amount := amounts[name]) is not None}
    return [(PRICES[name], amount * prices[name]) for name, amount in known.items()]


def hours_in_words(work: Work, kinds: Sequence[str] = tuple(GPUS)) -> str:
    """Returns the hours on GPUs of some kinds, as a line of `plan` has them."""
    return ", ".join(f"{kind} {work.gpu_hours(kind):.3g}" for kind in kinds)
