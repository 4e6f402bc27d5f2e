"""Lease of a run: one runner at a time, by a file in the run folder that is renewed as a heartbeat.

Where the store has conditional writes, two runners can never both acquire the lease. Where it has
none (a probe tells), a runner writes its claim, waits a little, and looks whose claim stands: two
that start within that moment are told apart, and the user is warned that the store cannot do more.
"""

import _thread
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from overpaint.pipeline.errors import BusyError, StoppedError, UsageError
from overpaint.pipeline.runs.folder import WORK, RunFolder
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import is_local

LEASE = f"{WORK}/lease.json"
_PROBE = f"{WORK}/probe"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """Intervals of a lease, in seconds.

    Attributes:
        heartbeat_s: interval at which the holder renews its claim.
        expiry_s: silence after which another runner may take the lease over.
        settle_s: time for which a claim must stand on a store without conditional writes.
    """

    heartbeat_s: float = 10.0
    expiry_s: float = 60.0
    settle_s: float = 2.0


@contextmanager
def acquire_lease(
    folder: RunFolder, timings: LeaseTimings | None = None, *, at_once: bool = False
) -> Generator[None]:
    """Holds the lease of a run while the body of the `with` statement runs.

    Args:
        folder: run folder.
        timings: intervals of the lease; None for the usual ones.
        at_once: whether a holder counts as alive that has renewed its claim lately; else its
            heartbeat is watched, which takes some seconds.

    Raises:
        BusyError: another runner holds the lease.
        UsageError: the store has no such bucket.

    Example:
        >>> with acquire_lease(RunFolder(Storage("demo-run"))):
        ...     pass  # nobody else changes the run
    """
    lease = _Lease(folder, timings or LeaseTimings())
    lease.acquire(at_once=at_once)
    beat = threading.Thread(target=lease.renew_until_stopped, name="lease", daemon=True)
    beat.start()
    try:
        yield
    finally:
        lease.stopped.set()
        beat.join()
        lease.release()


def check_idle(folder: RunFolder) -> None:
    """Checks at once, by one small object, that nobody is at work on a run.

    A holder that died lately still counts as at work, until its last heartbeat is old enough.

    Raises:
        BusyError: a runner has renewed its claim lately.
    """
    _Lease(folder, LeaseTimings()).check_idle(folder.read_json(LEASE))


class _Lease:
    """Claim of this process to a run."""

    def __init__(self, folder: RunFolder, timings: LeaseTimings) -> None:
        self._folder = folder
        self._timings = timings
        self._holder = uuid.uuid4().hex
        self._beats = 0
        self.stopped = threading.Event()

    def check_idle(self, claim: dict[str, object] | None) -> None:
        """Refuses a run whose holder, by its own clock, has renewed its claim lately."""
        renewed_at = claim and claim.get("renewed_at")
        if claim is None or _has_died(claim) or not isinstance(renewed_at, int | float):
            return
        if time.time() - renewed_at < self._timings.expiry_s:
            raise self._refusal(claim)

    def acquire(self, *, at_once: bool = False) -> None:
        """Claims the run; a holder that is silent long enough has died."""
        claim = self._folder.read_json(LEASE)
        if at_once:
            self.check_idle(claim)
        if claim is not None:
            self._wait_until_silent(claim)
            self._folder.storage.remove([LEASE])
        if self._has_conditional_writes():
            if not self._folder.storage.create(LEASE, self._claim()):
                raise self._refusal(self._folder.read_json(LEASE) or {})
            return
        log.warning(
            "%s cannot write conditionally: two runners that start in the same moment may both run",
            self._folder.storage.uri,
        )
        self._folder.storage.write(LEASE, self._claim())
        time.sleep(self._timings.settle_s)
        self._check()

    def _has_conditional_writes(self) -> bool:
        """Probes the store, which is the first that a run writes to it."""
        try:
            return has_conditional_writes(self._folder.storage)
        except StoppedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise UsageError(str(error)) from error
            raise

    def _wait_until_silent(self, claim: dict[str, object]) -> None:
        """Looks a holder of this machine up; watches the heartbeat of another's."""
        if _has_died(claim):
            return
        deadline = time.monotonic() + self._timings.expiry_s
        while time.monotonic() < deadline:
            now = self._folder.read_json(LEASE)
            if now is None:
                return
            if now != claim:
                raise self._refusal(now)
            time.sleep(self._timings.heartbeat_s / 4)

    def renew_until_stopped(self) -> None:
        """Renews the claim until it is stopped; a runner whose claim was taken over stops.

        While the store does not answer the claim cannot be renewed; once it is back, the claim
        there tells whether another runner has taken over.
        """
        while not self.stopped.wait(self._timings.heartbeat_s):
            try:
                self._renew()
            except (StoppedError, OSError) as error:
                log.warning("the lease could not be renewed: %s", error)

    def _renew(self) -> None:
        claim = self._folder.read_json(LEASE)
        if claim is not None and claim.get("holder") != self._holder:
            log.error("another runner took this run over: %s", claim)
            self.stopped.set()
            _thread.interrupt_main()
            return
        self._folder.storage.write(LEASE, self._claim())

    def release(self) -> None:
        """Removes the claim where it is still this process's."""
        claim = self._folder.read_json(LEASE)
        if claim is not None and claim.get("holder") == self._holder:
            self._folder.storage.remove([LEASE])
            self._folder.storage.remove_empty_folder(WORK)

    def _check(self) -> None:
        claim = self._folder.read_json(LEASE) or {}
        if claim.get("holder") != self._holder:
            raise self._refusal(claim)

    def _claim(self) -> bytes:
        self._beats += 1
        claim = {
            "holder": self._holder,
            "host": platform.node(),
            "pid": os.getpid(),
            "beat": self._beats,
            "renewed_at": time.time(),
        }
        return json.dumps(claim).encode()

    def _refusal(self, claim: dict[str, object]) -> BusyError:
        return BusyError(
            f"{self._folder.storage.uri}: another runner is at work on this run (process "
            f"{claim.get('pid')} on {claim.get('host')}): wait for it, or stop it first"
        )


def _has_died(claim: dict[str, object]) -> bool:
    """Tells whether the holder of a claim was a process of this machine that is no more."""
    return claim.get("host") == platform.node() and not _is_alive(claim.get("pid"))


def _is_alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def has_conditional_writes(storage: Storage) -> bool:
    """Tests with two small objects whether a store refuses to create one over another."""
    if is_local(storage.uri):
        return True
    path = f"{_PROBE}-{uuid.uuid4().hex}"
    try:
        return storage.create(path, b"1") and not storage.create(path, b"2")
    finally:
        storage.remove([path])
