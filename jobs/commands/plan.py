"""plan: shows what a run would do and cost."""

from collections.abc import Mapping

from cyclopts import App
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import InputOptions
from overpaint.jobs.runs.prepare import prepare
from overpaint.jobs.runs.sources import sources_problem
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.costs import CostCounter
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.terms import TERMS
from rich.table import Table


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(plan)


def plan(recipe: str, *, options: InputOptions) -> int:
    """Shows what a run would do and cost; needs no GPU and writes nothing.

    Costs are network evaluations for all rows, by kind; rows with equal inputs share one answer.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        options: Options of the input.
    """
    prepared = prepare(recipe, options.input_request(), options.settings)
    checked, num_input_rows = prepared.plan, prepared.input.survey.num_rows
    counter, num_rows, num_duplicates = CostCounter(checked), 0, 0
    for table, duplicates in plan_parts(checked, prepared.input):
        counter.add_part(table)
        num_rows += table.num_rows
        num_duplicates += duplicates
    costs = counter.by_stage()
    console.print(f"{checked.name}: fingerprint {checked.fingerprint()}")
    if checked.terms:
        console.print(f"terms of the editor: {checked.terms}: {TERMS[checked.terms]}")
    console.print(_stage_table(checked, costs))
    for line in (*prepared.notes, *prepared.columns.lines()):
        console.print(line)
    if problem := sources_problem(checked, prepared.input):
        console.print(f"a run is refused: {problem}")
    console.print(f"{num_input_rows} input rows give {num_rows} edits", end="")
    console.print(f" ({num_duplicates} identical rows left out)" if num_duplicates else "")
    console.print(f"network evaluations: {str(sum(costs.values(), Cost())) or 'none'}")
    console.print(f"the key of an edit: source_uri, {', '.join(checked.key_columns()) or '-'}")
    return 0


def _stage_table(checked: Plan, costs: Mapping[str, Cost]) -> Table:
    names = ("stage", "group", "batch", "adds", "CPUs", "GPUs", "actors", "evaluations")
    table = Table(*names, box=None)
    for stage in checked.stages:
        placement = checked.placement(stage.group)
        table.add_row(
            stage.name,
            stage.group,
            str(stage.operator.batch_size),
            ", ".join(stage.output_names),
            f"{placement.num_cpus:g}",
            f"{placement.num_gpus:g}",
            f"{placement.actors[0]}-{placement.actors[1]}",
            str(costs[stage.name]),
        )
    return table
