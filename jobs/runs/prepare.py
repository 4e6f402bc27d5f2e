"""Checks of a run's plan and input that come before anything is started or written."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.jobs.runs.gpu_shares import with_gpu_shares
from overpaint.pipeline.columns import INPUT
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.given_columns import GivenColumns
from overpaint.pipeline.runs.inputs import Input, InputRequest
from overpaint.pipeline.storage.checks import first_contact


@dataclass(frozen=True)
class PreparedRun:
    """Checked plan of a run, with the input that it is to read.

    Attributes:
        label: file of the recipe, or name of the plan, as errors give it.
        plan: plan whose operators have found the weights that they will load.
        request: input as the user asks for it.
        placed: sentences on shares of GPUs that were estimated.
    """

    label: str
    plan: Plan
    request: InputRequest
    placed: tuple[str, ...] = ()

    @cached_property
    def input(self) -> Input:
        """The rows of the input, read once, which fit the plan.

        Raises:
            UsageError: the input is missing, or does not fit the plan.
        """
        columns = {*self.plan.input_column_names(), *(column.name for column in INPUT)}
        with first_contact(self.request.uri):
            run_input = self.request.read(columns)
        with named_errors(self.label):
            self.plan.check_input(run_input.schema.names)
        return run_input

    @cached_property
    def columns(self) -> GivenColumns:
        """The columns of the input, by what becomes of them."""
        return GivenColumns.of(self.plan, self.input.schema.names)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user on shares of GPUs, and on what is read of the input or not."""
        return [*self.placed, *self.input.notes, *self.columns.warnings()]


def prepare(recipe: Plan | str, request: InputRequest, settings: Sequence[str] = ()) -> PreparedRun:
    """Checks a plan as far as that goes without reading the input.

    Args:
        recipe: plan, or path or name of a recipe.
        request: input as the user asks for it.
        settings: `stage.field=value` changes of the recipe.

    Raises:
        UsageError: the recipe is missing or wrong, or weights are missing.
    """
    if isinstance(recipe, Plan):
        label, plan = f"plan {recipe.name!r}", recipe
        if settings:
            raise UsageError(f"{label}: settings change a recipe; give the plan other fields")
    else:
        label, plan = read_recipe(recipe)[1], load_plan(recipe, settings)
    with named_errors(label):
        plan.check_models()
    plan, notes = with_gpu_shares(plan)
    return PreparedRun(label, plan, request, tuple(notes))


@contextmanager
def named_errors(label: str) -> Generator[None]:
    """Puts the name of a recipe or run before the usage errors of the body."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
