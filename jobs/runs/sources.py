"""Look at some sources of an input before anything is loaded: whether they may be read at all."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from overpaint.operators.fetch import Fetch
from overpaint.operators.sources.access import Access, check_source
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.uris import is_local

_PERMISSION = "allow_local_files"
_NUM_THREADS = 16


def check_sources(plan: Plan, run_input: Input) -> None:
    """Checks that one of some dozens of sources, spread over an input, can be read.

    Raises:
        UsageError: none of them can; says why, and what would let them be read.
    """
    problem = sources_problem(plan, run_input)
    if problem is not None:
        raise UsageError(problem)


def sources_problem(plan: Plan, run_input: Input) -> str | None:
    """Returns in words why none of some sources of an input can be read; None if one can.

    Sources that name a store or a server of their own are not looked at: that is for `fetch`.
    """
    sources = run_input.survey.sample
    if not all(is_local(source) for source in sources):
        return None
    for stage in plan.stages:
        # A plan whose fetch is of another class reads what it will.
        if isinstance(stage.operator, Fetch):
            errors = _errors(run_input.base_uri, sources, stage.operator.access)
            if len(errors) == len(sources):
                return (
                    f"none of the {len(sources)} sources that were looked for can be read, such as "
                    f"{sources[0]!r}: {errors[0]}; {_remedy(errors[0], stage, run_input)}"
                )
    return None


def _errors(base_uri: str, sources: Sequence[str], access: Access) -> list[RowError]:
    """Returns the errors of the sources that cannot be read."""

    def error(source: str) -> RowError | None:
        try:
            check_source(base_uri, source, access)
        except RowError as error:
            return error
        return None

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return [error for error in pool.map(error, sources) if error is not None]


def _remedy(error: RowError, stage: Stage, run_input: Input) -> str:
    if error.code == "source_missing":
        return f"--base names the folder of relative sources, which is {run_input.base_uri} now"
    if _PERMISSION in error.message:
        return f"--set {stage.name}.{_PERMISSION}=true lets them be read"
    return "check their permissions"
