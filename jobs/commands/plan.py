"""plan: shows what a run would do and cost."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import Count, InputOptions
from overpaint.jobs.runs.display import duration
from overpaint.jobs.runs.estimate import (
    REACHED,
    check_gpu,
    hours_in_words,
    money,
    parse_prices,
    work_of,
)
from overpaint.jobs.runs.prepare import PreparedRun, prepare
from overpaint.jobs.runs.sample import Sample, measure_sample
from overpaint.jobs.runs.source_sizes import mean_bytes, num_conditions
from overpaint.jobs.runs.sources import sources_problem
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.costs import CostCounter
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.sizes import SizeCounter
from overpaint.pipeline.stage import AUTO
from overpaint.pipeline.terms import TERMS
from rich.table import Table


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(plan)


def plan(
    recipe: str,
    *,
    options: InputOptions,
    sample: Count | None = None,
    price: Annotated[str, Parameter(show_default=False)] = "",
    gpu: str = "L4",
) -> int:
    """Shows what a run would do and cost; needs no GPU and writes nothing.

    Costs are network evaluations for all rows, by kind; rows with equal inputs share one answer.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        options: Options of the input.
        sample: Run that many rows here, into a folder that is then removed, and measure.
        price: Prices, such as gpu=2.5,requests=0.005,reads=0.0004,storage=0.023: of an hour of a
            GPU, of 1,000 writing and reading requests, and of a GiB for a month.
        gpu: Kind of GPU that the price is of, where nothing is measured.
    """
    prices = parse_prices(price)
    check_gpu(gpu)
    prepared = prepare(recipe, options.input_request(), options.settings)
    checked, num_input_rows = prepared.plan, prepared.input.survey.num_rows
    counter, num_duplicates = CostCounter(checked), 0
    sizes = SizeCounter(checked, num_conditions(checked))
    for table, duplicates in plan_parts(checked, prepared.input):
        counter.add_part(table)
        sizes.add_part(table)
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
    console.print(f"{num_input_rows} input rows give {sizes.num_rows} edits", end="")
    console.print(f" ({num_duplicates} identical rows left out)" if num_duplicates else "")
    console.print(f"network evaluations: {str(sum(costs.values(), Cost())) or 'none'}")
    measured = measure_sample(prepared, sample) if sample else None
    for line in _estimates(prepared, costs, sizes, measured, prices, gpu):
        console.print(line)
    console.print(f"the key of an edit: source_uri, {', '.join(checked.key_columns()) or '-'}")
    return 0


def _estimates(
    prepared: PreparedRun,
    costs: Mapping[str, Cost],
    sizes: SizeCounter,
    measured: Sample | None,
    prices: Mapping[str, float],
    gpu: str,
) -> Iterator[str]:
    """Yields lines on the run's work, time, store and price."""
    work = work_of(prepared.plan, costs)
    for stage, cost in work.uncounted.items():
        yield f"not counted in TFLOP, since the network of {stage} is not: {cost}"
    gpu_hours, written_gib = None, None
    if work.tflop:
        yield f"work: {work.tflop:.4g} TFLOP of these evaluations, counted on the networks' shapes"
        gpu_hours = work.gpu_hours(gpu)
        yield f"GPU-hours, at {REACHED:.0%} of the half-precision peak: {hours_in_words(work)}"
    if measured is not None:
        seconds = measured.seconds(sizes.num_rows)
        written_gib = measured.written_bytes / measured.num_rows * sizes.num_rows / 2**30
        gpu_hours = seconds / 3600 if measured.gpu else None
        yield (
            f"measured on {measured.num_rows} rows here, on {measured.gpu or 'the CPU'}, in one "
            f"process: {measured.row_s:.3g} s a row and {measured.start_s:.3g} s to start; all "
            f"rows: {duration(seconds)}" + (f", {gpu_hours:.3g} GPU-hours" if gpu_hours else "")
        )
        yield f"counted on these rows: {measured.evaluations_in_words}"
    yield (
        f"store: up to {sizes.num_objects} objects, {sizes.num_writes} writes and "
        f"{sizes.num_reads} reads in {sizes.num_tasks} tasks{_bytes(prepared, sizes, written_gib)}"
    )
    yield from _bill(money(prices, sizes, gpu_hours=gpu_hours, written_gib=written_gib))


def _bytes(prepared: PreparedRun, sizes: SizeCounter, written_gib: float | None) -> str:
    mean = mean_bytes(prepared.input)
    read = f"; {mean * sizes.num_rows / 2**30:.3g} GiB of sources" if mean else ""
    return read + (f", {written_gib:.3g} GiB of images" if written_gib is not None else "")


def _bill(entries: list[tuple[str, float]]) -> Iterator[str]:
    for thing, amount in entries:
        yield f"price at that of {thing}: {amount:.4g}"
    if len(entries) > 1:
        yield f"price together: {sum(amount for _, amount in entries):.4g}"


def _stage_table(checked: Plan, costs: Mapping[str, Cost]) -> Table:
    names = ("stage", "group", "batch", "adds", "CPUs", "GPUs", "actors", "evaluations")
    table = Table(*names, box=None)
    for stage in checked.stages:
        placement = checked.placement(stage.group)
        table.add_row(
            stage.name,
            stage.group,
            AUTO if stage.finds_batch_size else str(stage.operator.batch_size),
            ", ".join(stage.output_names),
            f"{placement.num_cpus:g}",
            f"{placement.num_gpus:g}",
            f"{placement.actors[0]}-{placement.actors[1]}",
            str(costs[stage.name]),
        )
    return table
