"""judge: what is done with the scores of judges."""

import json
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.calibrate.calibration import Calibration, GroupFigures
from overpaint.jobs.calibrate.page import calibration_page, figure_with_error
from overpaint.jobs.commands.bench import bench
from overpaint.jobs.commands.output import console, print_figures
from overpaint.jobs.options import Count, NewFile, Uri
from overpaint.operators.combine import Combine
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import RunFolder

judge = App(name="judge", help="Compares the scores of judges with what is known of the edits.")

_PRINTED = ("name", "num_rows", "num_good", "num_unjudged", "auc", "auc_error", "spearman")


def register(app: App) -> None:
    """Adds these commands to the app."""
    app.command(judge)


@judge.command
def calibrate(
    output: Uri,
    *,
    column: str = "lmm_score",
    labels: Uri | None = None,
    good_from: float | None = None,
    json_file: Annotated[NewFile | None, Parameter(name="--json")] = None,
    html: NewFile | None = None,
) -> int:
    """Compares a score of a run with labels: AUC, rank correlation, reliability and thresholds.

    Args:
        output: The run folder.
        column: A score of the run, of a judge or of any other stage.
        labels: A table with key, or source_uri, and label, which is 1 or 0, and if you like grade
            and failure; papercut's truth where none is given.
        good_from: The least label of a good row, for labels that are other numbers.
        json_file: A file for the figures.
        html: A file for a page with charts.
    """
    from overpaint.jobs.calibrate.runs import calibrate_run

    found = calibrate_run(RunFolder.at(output), column, labels=labels, good_from=good_from)
    write_calibration(found, output, json_file, html)
    return 0


@judge.command(name="fit")
def fit_rank(
    output: Uri,
    *,
    columns: str = "lmm_score",
    labels: Uri | None = None,
    good_from: float | None = None,
    to: NewFile | None = None,
) -> int:
    """Fits one rank for several editors to labels of a run, and prints it as a stage of a recipe.

    Ranks are compared on sources that the fit has not seen: each fifth is judged by a model of the
    other four.

    Args:
        output: The run folder.
        columns: Scores that count, such as lmm_score,clip_sim_dir,change_frac.
        labels: A table of labels, as `judge calibrate` reads it; papercut's truth where none is
            given.
        good_from: The least label of a good row, for labels that are other numbers.
        to: A file for the stage, in place of the console.
    """
    from overpaint.jobs.calibrate.runs import fit_run

    names = [name.strip() for name in columns.split(",") if name.strip()]
    found = fit_run(RunFolder.at(output), names, labels=labels, good_from=good_from)
    console.print(
        f"{found.num_rows} rows, {found.num_requests} edits; any try is right for "
        f"{found.reachable:.1%} of them. On unseen sources:"
    )
    print_figures([each._asdict() for each in found.comparisons])
    text = stage_text(found.operator)
    if to is None:
        console.print(text)
    else:
        to.write_text(text, encoding="utf-8")
    return 0


def stage_text(operator: Combine) -> str:
    """Returns a stage of a recipe, as TOML."""
    lines = ["[[stage]]", 'operator = "combine"', f"intercept = {operator.intercept!r}"]
    for field in ("weights", "means", "offsets"):
        values: dict[str, float] = getattr(operator, field)
        lines += ["", f"[stage.{field}]"]
        lines += [f"{json.dumps(name)} = {value!r}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def write_calibration(
    found: Calibration, subject: str, json_file: NewFile | None, html: NewFile | None
) -> None:
    """Prints a calibration, and writes its figures and its page where files are given.

    Args:
        found: calibration.
        subject: run or bench that the rows are of.
        json_file: file for the figures.
        html: file for the page.
    """
    overall = found.overall
    area = figure_with_error(overall.auc, overall.auc_error)
    console.print(f"{found.column} beside {found.labels}: AUC {area}")
    groups = [overall, *found.by_failure, *found.by_type]
    print_figures([_printed(group) for group in groups])
    if found.orders_agree is not None:
        console.print(f"both orders agree for {found.orders_agree:.1%} of the pairs")
    for each in found.thresholds:
        point = each.point
        outcome = (
            "no threshold has it"
            if point is None
            else f"{found.column} >= {point.threshold:.4g} keeps {point.kept:.1%}: "
            f"{point.precision:.1%} of them good, {point.recall:.1%} of the good ones"
        )
        console.print(f"{each.reason}: {outcome}")
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_json(), indent=2) + "\n")
    if html is not None:
        html.write_text(calibration_page(found, subject))


@bench.command(name="judge")
def bench_judge(
    *,
    form: str = "editeval",
    recipe: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    edits: Count = 16,
    seed: int = 0,
    edit_types: str = "",
    json_file: Annotated[NewFile | None, Parameter(name="--json")] = None,
    html: NewFile | None = None,
) -> int:
    """Calibrates a judge on drawn edits of known kinds: true, no edit, half done, shifted ...

    Args:
        form: The form in which papercut's judge answers: editeval or expected.
        recipe: A recipe whose judge is measured in place of papercut's.
        set_: A setting of the recipe, such as judge.endpoint=http://localhost:8000/v1; may be given
            several times.
        edits: Edits of each type, each in about seven kinds.
        seed: Another seed gives other edits.
        edit_types: Types of edits, such as color,replace; all where none is given.
        json_file: A file for the figures.
        html: A file for a page with charts.
    """
    from overpaint.jobs.bench.judge import HOW, judge_of, measure_judge, papercut_judge
    from overpaint.jobs.papercut.dataset import parse_edit_types
    from overpaint.jobs.recipes import load_plan

    try:
        types = parse_edit_types(edit_types.split(",") if edit_types else ["all"])
        stage = judge_of(load_plan(recipe, set_ or ())) if recipe else papercut_judge(form)
    except ValueError as error:
        raise UsageError(str(error)) from error
    console.print(HOW)
    found = measure_judge(stage, edits, seed, types)
    subject = recipe or f"papercut's judge, form {stage.operator.model_dump()['form']}"
    write_calibration(found, subject, json_file, html)
    return 0


def _printed(group: GroupFigures) -> dict[str, object]:
    figures = asdict(group)
    return {name: figures[name] for name in _PRINTED}
