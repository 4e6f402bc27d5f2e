"""run, plan, redrive, accept, replay: the commands that do something to rows."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.cluster.ray.placement import check_fits, cluster_resources, local_resources
from overpaint.cluster.ray.session import Session, connected
from overpaint.cluster.worker.in_process import run_local
from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.jobs.report.report import ManifestSummary
from overpaint.jobs.runs import accept as accepting
from overpaint.jobs.runs import replay as replaying
from overpaint.jobs.runs.display import RunDisplay
from overpaint.jobs.runs.execute import Runner, execute
from overpaint.jobs.runs.open import (
    check_output,
    open_run,
    refuse_other_versions,
)
from overpaint.jobs.runs.redrive import reopen_failed_rows
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import REPORT, RunFolder
from overpaint.pipeline.runs.inputs import Input, InputRequest
from overpaint.pipeline.runs.lease import acquire_lease
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.record import RunRecord, existing_run
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise
from rich.console import Console
from rich.table import Table

console = Console(soft_wrap=True, highlight=False, markup=False)

InputUri = Annotated[str, Parameter(name="--input")]
OutputUri = Annotated[str, Parameter(name="--output")]
Settings = Annotated[list[str], Parameter(name="--set", negative="")]
InsecureCluster = Annotated[bool, Parameter(negative="")]
Mapping = Annotated[list[str], Parameter(name="--map", negative="")]


def register(app: App) -> None:
    """Adds these commands to the app."""
    for command in (run, plan, redrive, accept, replay):
        app.command(command)


def run(
    recipe: str,
    *,
    input_uri: InputUri,
    output: OutputUri,
    limit: int | None = None,
    settings: Settings | None = None,
    mapping: Mapping | None = None,
    base: str | None = None,
    address: str | None = None,
    num_cpus: int | None = None,
    ray: bool = True,
    update: bool = False,
    insecure_cluster: InsecureCluster = False,
) -> int:
    """Edits a dataset; the same command goes on with a run that stopped.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        input_uri: A folder or prefix of images, a table with source_uri, or another run's folder.
        output: The run folder: a local path or any fsspec URL, such as s3://bucket/run.
        limit: Take only that many rows from the front of the input.
        settings: stage.field=value changes a field of a stage, row.column=value gives every row a
            column; may be given several times.
        mapping: NAME=NEW renames a column of the input table; may be given several times.
        base: What relative sources are relative to; the table's folder where none is given.
        address: Of a Ray cluster; a local one is started where none is given.
        num_cpus: Logical CPUs of a local Ray; all of the machine where none are given.
        ray: --no-ray runs every stage in this process.
        update: Where the output holds a run of another recipe, input or version, plan it anew:
            edits and scores that still hold are kept, the others are made, and edits that are no
            longer asked for are removed at the end. Without it such an output is refused.
        insecure_cluster: Join a cluster that asks for no token, where nobody else can reach it.
    """
    request = InputRequest(input_uri, limit, _names(mapping or []), base)
    checked, read = _prepared(recipe, settings or [], request)
    session = Session(address=address, num_cpus=num_cpus, allow_open=insecure_cluster)
    if ray and session.cluster_address is None:
        with _about(read_recipe(recipe)[1]):
            check_fits(checked, local_resources(session))
    folder = RunFolder(Storage(normalise(output)))
    check_output(folder, request)
    if update or not folder.is_planned():
        read()  # what is wrong with it is said before anything is written
    with acquire_lease(folder):
        opened = open_run(checked, request, folder, read, update=update)
        with RunDisplay(console) as display, _runner(opened.plan, session if ray else None) as on:
            summary = execute(opened, on, display)
    _tell(folder, summary)
    return 0


@contextmanager
def _runner(plan: Plan, session: Session | None) -> Generator[Runner]:
    """What takes the rows of a plan through: Ray, or without a session this process."""
    if session is None:
        yield run_local
        return
    # Ray takes seconds to import: commands that do not run rows do without.
    from overpaint.cluster.ray.stream import run_on_ray

    with connected(session):
        check_fits(plan, cluster_resources())
        yield run_on_ray


def _prepared(
    recipe: str, settings: list[str], request: InputRequest
) -> tuple[Plan, Callable[[], Input]]:
    """Checks all that can be checked before anything is started, and how to read the input."""
    file = read_recipe(recipe)[1]
    checked = load_plan(recipe, settings)
    with _about(file):
        checked.check_models()

    @cache
    def read() -> Input:
        given = request.read()
        with _about(file):
            checked.check_input(given.table.column_names)
        return given

    return checked, read


@contextmanager
def _about(file: str) -> Generator[None]:
    """Names the recipe's file in errors about it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def _names(mapping: list[str]) -> dict[str, str]:
    pairs = [entry.split("=", 1) for entry in mapping]
    for entry, pair in zip(mapping, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise UsageError(f"--map {entry!r}: write NAME=NEW, such as file_name=source_uri")
    return {pair[0]: pair[1] for pair in pairs}


def _tell(folder: RunFolder, summary: ManifestSummary) -> None:
    ledger = summary.ledger
    console.print(
        f"\nplanned {ledger.planned} = accepted {ledger.accepted} + rejected {ledger.rejected} "
        f"+ failed {ledger.failed}"
    )
    for name, success in summary.success.named().items():
        matching = _share(success.successful, success.planned)
        oracle = _share(success.oracle, success.measured)
        console.print(f"edits that match the truth, {name}: {matching} (oracle {oracle})")
    console.print(f"report   {folder.storage.at(REPORT)}")
    console.print(f"images   {folder.storage.at('images')}")
    console.print(f"manifest {folder.storage.at('manifest')}")


def _share(count: int, total: int) -> str:
    return f"{count}/{total} = {count / total:.0%}" if total else "none measured"


def plan(
    recipe: str,
    *,
    input_uri: InputUri,
    limit: int | None = None,
    settings: Settings | None = None,
    mapping: Mapping | None = None,
    base: str | None = None,
) -> int:
    """Shows what a run would do and cost; needs no GPU and writes nothing.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        input_uri: A folder or prefix of images, a table with source_uri, or another run's folder.
        limit: Take only that many rows from the front of the input.
        settings: stage.field=value changes a field of a stage, row.column=value gives every row a
            column; may be given several times.
        mapping: NAME=NEW renames a column of the input table; may be given several times.
        base: What relative sources are relative to; the table's folder where none is given.
    """
    request = InputRequest(input_uri, limit, _names(mapping or []), base)
    checked, read = _prepared(recipe, settings or [], request)
    given = read()
    num_rows = num_duplicates = 0
    for table, duplicates in plan_parts(checked, given):
        num_rows += table.num_rows
        num_duplicates += duplicates
    console.print(f"{checked.name}: fingerprint {checked.fingerprint()}")
    console.print(_stage_table(checked))
    console.print(f"{given.table.num_rows} input rows give {num_rows} edits", end="")
    console.print(f" ({num_duplicates} identical rows left out)" if num_duplicates else "")
    console.print(f"the key of an edit: source_uri, {', '.join(checked.key_columns()) or '-'}")
    return 0


def _stage_table(checked: Plan) -> Table:
    table = Table("stage", "group", "batch", "adds", "CPUs", "GPUs", "actors", box=None)
    for stage in checked.stages:
        placement = checked.placement(stage.group)
        table.add_row(
            stage.name,
            stage.group,
            str(stage.operator.batch_size),
            ", ".join(stage.written),
            f"{placement.num_cpus:g}",
            f"{placement.num_gpus:g}",
            f"{placement.actors[0]}-{placement.actors[1]}",
        )
    return table


def accept(output: str, *, policy: str) -> int:
    """Applies another acceptance policy to a finished run; nothing is edited again.

    Args:
        output: The run folder.
        policy: A TOML file with bounds on scores, such as clip_sim_dir = { min = 0.2 }.
    """
    folder = RunFolder(Storage(normalise(output)))
    bounds = accepting.read_policy(policy)
    RunRecord.read(folder)
    with acquire_lease(folder):
        summary = accepting.accept(folder, bounds)
    _tell(folder, summary)
    return 0


def redrive(
    output: str,
    *,
    error_code: str | None = None,
    address: str | None = None,
    num_cpus: int | None = None,
    ray: bool = True,
    insecure_cluster: InsecureCluster = False,
) -> int:
    """Tries the failed rows of a run again, alone; the same command goes on where it stopped.

    Args:
        output: The run folder.
        error_code: Only rows that failed with it, such as source_missing.
        address: Of a Ray cluster; a local one is started where none is given.
        num_cpus: Logical CPUs of a local Ray; all of the machine where none are given.
        ray: --no-ray runs every stage in this process.
        insecure_cluster: Join a cluster that asks for no token, where nobody else can reach it.
    """
    folder = RunFolder(Storage(normalise(output)))
    existing_run(folder)
    session = Session(address=address, num_cpus=num_cpus, allow_open=insecure_cluster)
    with acquire_lease(folder):
        opened = existing_run(folder)
        if not folder.is_planned():
            raise UsageError(f"{folder.storage.uri}: not planned to its end; run its own command")
        with _about(folder.storage.uri):
            opened.plan.check_models()
        refuse_other_versions(opened)
        with RunDisplay(console) as display, _runner(opened.plan, session if ray else None) as on:
            console.print(f"{reopen_failed_rows(opened, error_code)} failed rows are tried again")
            summary = execute(opened, on, display)
    _tell(folder, summary)
    return 0


def replay(output: str, key: str, *, to: str | None = None) -> int:
    """Does one row of a run again, here, and compares the bytes with the run's.

    Args:
        output: The run folder.
        key: Of the row, or enough of its first digits.
        to: A folder to write the row's images into.
    """
    replayed = replaying.replay(RunFolder(Storage(normalise(output))), key)
    for name, value in replayed.row.items():
        if not isinstance(value, bytes) and value is not None and name != "inverted_path":
            console.print(f"{name} = {value}")
    if to is not None:
        names = replaying.write_images(replayed, normalise(to))
        console.print(f"wrote {', '.join(names)} to {to}")
    word = "equal to" if replayed.is_equal else "different from"
    console.print(f"edited image {word} the run's ({replayed.recorded_sha256 or 'none recorded'})")
    return 0 if replayed.is_equal else 1
