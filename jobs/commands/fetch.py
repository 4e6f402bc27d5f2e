"""fetch: gets the weights of a recipe to this machine, ahead of a run."""

from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.recipes import load_plan
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan

Settings = Annotated[list[str] | None, Parameter(name="--set", negative="", show_default=False)]


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(fetch)


def fetch(recipe: str, *, set_: Settings = None) -> int:
    """Fetches the weights that a recipe names to this machine, such as into an image.

    Actors fetch what is missing too, one for each machine. OVERPAINT_MODELS names the folder of
    those that come from a store, HF_HOME that of the hub's; OVERPAINT_MODEL_MIRROR a prefix of a
    store with hub ids below it, which is asked in place of the hub.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        set_: stage.field=value changes a field of a stage; may be given several times.
    """
    for stage, weights in _weights(load_plan(recipe, set_ or ())):
        try:
            found = weights.fetched()
            console.print(f"{stage}: {weights.name}: {found.identity()} in {found.path}")
        except ValueError as error:
            raise UsageError(f"stage {stage!r}: {error}") from error
    return 0


def _weights(plan: Plan) -> list[tuple[str, Checkpoint]]:
    """Returns the checkpoints of a plan, each with the first stage that names it."""
    found: dict[Checkpoint, str] = {}
    for stage in plan.stages:
        weights = getattr(stage.operator, "weights", None)
        if isinstance(weights, Checkpoint) and weights.name:
            found.setdefault(weights, stage.name)
    return [(stage, weights) for weights, stage in found.items()]
