"""The fault matrix: every fault at every share of a run on every store."""

import shutil
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import s3fs
from overpaint.jobs.faults import servers
from overpaint.jobs.faults.faults import FAULTS, Fault, SkippedError
from overpaint.jobs.faults.outcome import Outcome, RunContents, compare, read_contents
from overpaint.jobs.faults.proxy import Proxy
from overpaint.jobs.faults.trial import (
    ACTORS,
    BOUND,
    TASK_ROWS,
    TASKS_IN_FLIGHT,
    FaultError,
    Images,
    Trial,
    draw_input,
)
from overpaint.pipeline.errors import UsageError, near_miss

StoreName = Literal["local", "juicefs", "moto"]
ROWS = 96
HOW = f"""\
Each trial runs the command over {ROWS} drawn images on {ACTORS} actors of a local Ray, in tasks of
{TASK_ROWS} rows, disturbs it once at a share of its rows, gives the same command again until it
exits with 0, and compares the store with a run that nothing disturbed. Its operator writes every
row that it is called with into a file of its own: `redone` are the calls beyond a row's first, and
`bound` is the number of rows in actors x {TASKS_IN_FLIGHT} tasks. Rows that fail by the nature of
the fault (a row that kills its worker, a source that became garbage) are `failed`, and not
compared. Of runs that pack pictures into shards, the pictures of each row are compared with the
objects of a run that does not, and no file may be left that no row names."""


@dataclass(frozen=True, slots=True)
class TrialStore:
    """A store that trials keep their runs in.

    Attributes:
        name: name of the store.
        uri: folder, or prefix of a bucket.
        proxy: proxy in front of an S3 server; None for a local disk.
    """

    name: StoreName
    uri: str
    proxy: Proxy | None


class Baseline(NamedTuple):
    """The input of all trials, and the contents of a run that nothing disturbed.

    Attributes:
        input_folder: local folder with the drawn input.
        contents: contents of the undisturbed run.
        images: how all runs keep pictures: objects or shards.
    """

    input_folder: Path
    contents: RunContents
    images: Images = "objects"


def run_baseline(folder: Path, rows: int = ROWS, images: Images = "objects") -> Baseline:
    """Draws the input and runs it in one process, on a local disk, undisturbed.

    Args:
        folder: local folder for the input and the run.
        rows: rows of the input.
        images: how all runs keep pictures; this one keeps objects, to which shards are compared.
    """
    draw_input(folder / "input", rows)
    home = folder / "baseline"
    trial = Trial(home, folder / "input", str(home / "store"), at=1.0)
    trial.run_undisturbed()
    return Baseline(trial.input_folder, read_contents(trial.output), images)


@contextmanager
def open_store(name: StoreName, folder: Path) -> Generator[TrialStore]:
    """Opens a store inside the context; this process's environment leads to it.

    Args:
        name: name of the store.
        folder: local folder for the store's files.

    Raises:
        UsageError: the store's server is not installed.
    """
    if name == "local":
        yield TrialStore(name, str(folder / "store"), None)
        return
    home = folder / name
    home.mkdir(parents=True)
    serve = servers.juicefs if name == "juicefs" else servers.moto
    with serve(home) as direct, _proxied(direct) as proxy:
        access = servers.s3_environment(proxy.port)
        with servers.environment(**access), _fresh_clients():
            bucket = f"faults-{uuid.uuid4().hex[:8]}"
            servers.make_bucket(access, bucket)
            yield TrialStore(name, f"s3://{bucket}", proxy)


@contextmanager
def _proxied(direct: dict[str, str]) -> Generator[Proxy]:
    upstream = int(direct["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with Proxy(upstream, servers.free_port()).running() as proxy:
        yield proxy


@contextmanager
def _fresh_clients() -> Generator[None]:
    """Drops the clients that fsspec keeps: one of another server must not answer."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def measure_all(
    names: Sequence[str],
    stores: Sequence[StoreName],
    shares: Sequence[float],
    fault_s: float | None = None,
    images: Images = "objects",
) -> Iterator[dict[str, Any]]:
    """Yields a row for each fault at each share on each store that it means something on.

    A trial that a machine cannot be given, or that went otherwise than foreseen, has a `note`.

    Args:
        names: names of faults; none for all.
        stores: names of the stores that runs write to.
        shares: shares of the rows at which a fault strikes, 0 to 1.
        fault_s: duration of a fault that passes, in seconds; None for each fault's own.
        images: how runs keep pictures: objects or shards.

    Raises:
        UsageError: no fault has one of the names, or a store's server is not installed.
    """
    for name in names:
        if name not in FAULTS:
            raise UsageError(f"--fault {name}: no such fault: {near_miss(name, FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="overpaint-faults-") as temporary:
        folder = Path(temporary)
        baseline = run_baseline(folder, images=images)
        for store in stores:
            with open_store(store, folder) as trial_store:
                for fault in (FAULTS[name] for name in names or FAULTS):
                    if store in fault.stores:
                        yield from _at_each(fault, trial_store, shares, baseline, folder, fault_s)


def _at_each(
    fault: Fault,
    store: TrialStore,
    shares: Sequence[float],
    baseline: Baseline,
    folder: Path,
    fault_s: float | None,
) -> Iterator[dict[str, Any]]:
    for at in shares:
        row: dict[str, Any] = {"fault": fault.name, "store": store.name, "at": round(at * 100)}
        try:
            yield measure(fault, store, at, baseline, folder, fault_s)
        except SkippedError as error:
            yield {**row, "kept": None, "note": str(error)}
        except FaultError as error:
            yield {**row, "kept": False, "note": str(error)}


def measure(
    fault: Fault,
    store: TrialStore,
    at: float,
    baseline: Baseline,
    folder: Path,
    fault_s: float | None = None,
) -> dict[str, Any]:
    """Disturbs one run and compares it with the undisturbed one.

    Args:
        fault: fault that strikes.
        store: store that the run writes to.
        at: share of the rows at which the fault strikes, 0 to 1.
        baseline: undisturbed run.
        folder: local folder for the trial's files.
        fault_s: duration of a fault that passes, in seconds; None for the fault's own.

    Returns:
        `fault`, `store`, `at` (in %), `lost`, `duplicated`, `redone`, `bound`, `equal_bytes`;
        beside them `failed` rows, the `exit_codes` of the runs, `seconds`, and `kept`: True where
        every promise was kept.

    Raises:
        SkippedError: this machine cannot be given the fault.
    """
    name = f"{fault.name}-{at * 100:.0f}-{uuid.uuid4().hex[:6]}"
    duration_s = fault.fault_s if fault_s is None else fault_s
    uri = f"{store.uri}/{name}"
    trial = Trial(
        *(folder / name, baseline.input_folder, uri, at, duration_s),
        images=baseline.images,
        proxy=store.proxy,
    )
    start = time.monotonic()
    with trial.cleanup:
        fault.disturb(trial)
        outcome = compare(read_contents(trial.output), baseline.contents, trial.calls)
    kept = keeps_promises(outcome, trial) and tuple(trial.exit_codes) == fault.exit_codes
    if kept:
        shutil.rmtree(trial.folder)
    return {
        "fault": fault.name,
        "store": store.name,
        "at": round(at * 100),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "redone": outcome.redone,
        "bound": BOUND,
        "equal_bytes": outcome.equal_bytes,
        "failed": len(outcome.failed),
        "exit_codes": trial.exit_codes,
        "seconds": round(time.monotonic() - start, 1),
        "kept": kept,
    }


def keeps_promises(outcome: Outcome, trial: Trial) -> bool:
    """Tells whether no row is lost, doubled, changed or redone too often, or failed needlessly."""
    may = bool(outcome.failed) and outcome.failed.keys() <= trial.may_fail
    as_foreseen = may if trial.may_fail else outcome.failed == trial.must_fail
    counts_hold = outcome.lost == outcome.duplicated == 0 and outcome.redone <= BOUND
    return counts_hold and outcome.equal_bytes and as_foreseen
