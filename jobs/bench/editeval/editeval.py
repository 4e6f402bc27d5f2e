"""EditEval through Overpaint: the benchmark becomes a table, each editor a run, and its figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from overpaint.cluster.ray.session import Session
from overpaint.jobs.bench.editeval.drawn import write_drawn
from overpaint.jobs.bench.editeval.plans import Editors, plans_of
from overpaint.jobs.bench.editeval.tables import COLUMNS, Figures, figures_of
from overpaint.jobs.imports.benchmarks.editeval import EditEval
from overpaint.jobs.imports.writing import write_table
from overpaint.jobs.runs.execute import Display
from overpaint.jobs.runs.run import run
from overpaint.operators.models.weights import PAPERCUT
from overpaint.pipeline.errors import UsageError

HOW = """\
EditEval (arXiv 2402.17525, section 8): every editor edits every picture; a judge that sees source,
edit and instruction gives accuracy, preservation, quality and realism of 0 to 10, and the LMM Score
is 0.4, 0.3, 0.2 and 0.1 of them. Each edit is judged alone, where the published scores are of one
chat over all methods: compare figures of one judge among themselves. `clip_sim_target` is CLIP's
cosine of edit and target prompt. What the judge did not answer is counted and has no score.
papercut's judge and CLIP know drawn scenes: for photographs name others by --judge and --clip."""

DRAWN_IMAGES = 4
"""Pictures of each task that are drawn where no number is asked for."""
_DRAWN, _TABLE, _RUNS = "drawn", "table", "runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Comparison of editors.

    Attributes:
        folder: folder in EditEval's layout; "papercut", where there is no such folder, draws one.
        editors: editors.
        output: folder of the table and the runs, which a later call goes on with.
        images: pictures of each task; None for all, or `DRAWN_IMAGES` drawn ones.
        seed: seed of drawn pictures.
    """

    folder: str
    editors: Editors
    output: Path
    images: int | None = None
    seed: int = 0


def measure_editeval(
    request: Request, session: Session | None, display: Callable[[str], Display]
) -> Iterator[list[Figures]]:
    """Yields the figures of each editor once its run is done; runs that are done are read again.

    Args:
        request: what is compared.
        session: Ray on which the runs go; None for this process.
        display: makes the display of an editor's run, by its name.

    Raises:
        UsageError: the folder or an editor is not what it should be; nothing was started.
        StoppedError: a run stopped early; the same call goes on.
    """
    plans = plans_of(request.editors)
    table = request.output / _TABLE
    table.mkdir(parents=True, exist_ok=True)
    tasks = write_table(EditEval(), _folder(request), table, limit=request.images)
    for name, plan in plans.items():
        result = run(
            plan,
            input=str(table),
            output=str(request.output / _RUNS / name),
            update=True,
            ray=session is not None,
            session=session,
            display=display(name),
        )
        yield figures_of(name, result.rows(COLUMNS), list(tasks))


def _folder(request: Request) -> Path:
    """Returns the benchmark's folder, drawn where it is to be."""
    folder = Path(request.folder)
    if folder.is_dir():
        return folder
    if request.folder != PAPERCUT:
        raise UsageError(f"{folder}: no such folder; {PAPERCUT!r} draws one in EditEval's layout")
    drawn = request.output / _DRAWN
    write_drawn(drawn, images=request.images or DRAWN_IMAGES, seed=request.seed)
    return drawn
