"""The fault matrix: every fault at every share of a run on every store, each against its twin."""

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
from overpaint.jobs.faults.outcome import Outcome, Stored, outcome, stored
from overpaint.jobs.faults.proxy import Proxy
from overpaint.jobs.faults.trial import (
    ACTORS,
    BOUND,
    TASK_ROWS,
    TASKS_IN_FLIGHT,
    FaultError,
    Trial,
    draw_input,
)
from overpaint.pipeline.errors import UsageError, near_miss

StoreName = Literal["local", "juicefs", "moto"]
ROWS = 96
HOW = f"""\
Each trial runs the command over {ROWS} drawn images on {ACTORS} actors of a local Ray, in tasks of
{TASK_ROWS} rows, disturbs it once at a share of its rows, gives the same command again until it
exits with 0, and holds what lies in the store against the run that nothing disturbed. Its operator
notes every row that it is called with in a file of its own: `redone` are the notes beyond a row's
first, and `bound` is what actors x {TASKS_IN_FLIGHT} tasks hold. Rows that fail by the nature of
the fault (a row that kills its worker, a source that became garbage) are `failed`, and not
compared."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where trials keep their runs.

    Args:
        name: of the store.
        uri: a folder, or a prefix of a bucket.
        proxy: in front of an S3 server; None on a local disk.
    """

    name: StoreName
    uri: str
    proxy: Proxy | None


class Twin(NamedTuple):
    """The input of all trials, and what a run left that nothing disturbed."""

    given: Path
    stored: Stored


def undisturbed(folder: Path, rows: int = ROWS) -> Twin:
    """Draws the input and takes it through a run in one process, on a local disk."""
    draw_input(folder / "input", rows)
    trial = Trial(folder / "twin", folder / "input", str(folder / "twin" / "store"), at=1.0)
    trial.finish_alone()
    return Twin(trial.given, stored(trial.output))


@contextmanager
def place(name: StoreName, folder: Path) -> Generator[Place]:
    """Opens a store while the body runs; this process's environment leads to it.

    Raises:
        UsageError: its server is not installed.
    """
    if name == "local":
        yield Place(name, str(folder / "store"), None)
        return
    home = folder / name
    home.mkdir(parents=True)
    serve = servers.juicefs if name == "juicefs" else servers.moto
    with serve(home) as direct, _proxied(direct) as proxy:
        found = servers.s3_environment(proxy.port)
        with servers.environment(**found), _fresh_clients():
            bucket = f"faults-{uuid.uuid4().hex[:8]}"
            servers.make_bucket(found, bucket)
            yield Place(name, f"s3://{bucket}", proxy)


@contextmanager
def _proxied(direct: dict[str, str]) -> Generator[Proxy]:
    upstream = int(direct["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with Proxy(upstream, servers.free_port()).running() as proxy:
        yield proxy


@contextmanager
def _fresh_clients() -> Generator[None]:
    """Fsspec keeps its clients: one made for another server must not answer."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def measure_all(
    names: Sequence[str],
    stores: Sequence[StoreName],
    shares: Sequence[float],
    fault_s: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields a row for each fault at each share on each store that it means something on.

    A trial that a machine cannot be given, or that went otherwise than foreseen, has a `note`.

    Args:
        names: of faults; all where none are given.
        stores: where runs write.
        shares: of the rows, 0 to 1, at which a fault strikes.
        fault_s: how long a fault that passes lasts, in seconds; None for its own time.

    Raises:
        UsageError: no fault has one of the names, or a store's server is not installed.
    """
    for name in names:
        if name not in FAULTS:
            raise UsageError(f"--fault {name}: no such fault: {near_miss(name, FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="overpaint-faults-") as given:
        folder = Path(given)
        twin = undisturbed(folder)
        for store in stores:
            with place(store, folder) as there:
                for fault in (FAULTS[name] for name in names or FAULTS):
                    if store in fault.stores:
                        yield from _at_each(fault, there, shares, twin, folder, fault_s)


def _at_each(
    fault: Fault,
    there: Place,
    shares: Sequence[float],
    twin: Twin,
    folder: Path,
    fault_s: float | None,
) -> Iterator[dict[str, Any]]:
    for at in shares:
        row: dict[str, Any] = {"fault": fault.name, "store": there.name, "at": round(at * 100)}
        try:
            yield measure(fault, there, at, twin, folder, fault_s)
        except SkippedError as error:
            yield {**row, "kept": None, "note": str(error)}
        except FaultError as error:
            yield {**row, "kept": False, "note": str(error)}


def measure(
    fault: Fault, there: Place, at: float, twin: Twin, folder: Path, fault_s: float | None = None
) -> dict[str, Any]:
    """Disturbs one run and holds what it kept against its undisturbed twin.

    Args:
        fault: what strikes.
        there: the store.
        at: the share of the rows at which it strikes, 0 to 1.
        twin: the undisturbed run.
        folder: for the trial's files.
        fault_s: how long a fault that passes lasts, in seconds; None for its own time.

    Returns:
        `fault, store, at` (in %)`, lost, duplicated, redone, bound, equal_bytes`; beside them
        `failed` rows, the `exit_codes` of the runs, `seconds`, and `kept`: whether every promise
        was.

    Raises:
        SkippedError: this machine cannot be given the fault.
    """
    name = f"{fault.name}-{at * 100:.0f}-{uuid.uuid4().hex[:6]}"
    lasting = fault.fault_s if fault_s is None else fault_s
    uri = f"{there.uri}/{name}"
    trial = Trial(folder / name, twin.given, uri, at, lasting, there.proxy)
    start = time.monotonic()
    with trial.after:
        fault.tell(trial)
        found = outcome(stored(trial.output), twin.stored, trial.calls)
    kept = is_kept(found, trial) and tuple(trial.exit_codes) == fault.exit_codes
    if kept:
        shutil.rmtree(trial.folder)
    return {
        "fault": fault.name,
        "store": there.name,
        "at": round(at * 100),
        "lost": found.lost,
        "duplicated": found.duplicated,
        "redone": found.redone,
        "bound": BOUND,
        "equal_bytes": found.equal_bytes,
        "failed": len(found.failed),
        "exit_codes": trial.exit_codes,
        "seconds": round(time.monotonic() - start, 1),
        "kept": kept,
    }


def is_kept(found: Outcome, trial: Trial) -> bool:
    """Whether no row is lost, doubled, changed or redone too often, and only what must fail did."""
    may = bool(found.failed) and found.failed.keys() <= trial.may_fail
    as_foreseen = may if trial.may_fail else found.failed == trial.must_fail
    counts_hold = found.lost == found.duplicated == 0 and found.redone <= BOUND
    return counts_hold and found.equal_bytes and as_foreseen
