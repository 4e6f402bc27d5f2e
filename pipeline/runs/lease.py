"""One runner a run: a lease in the run folder, held with a heartbeat.

Where the store has conditional writes, two runners can never both take it. Where it has not (it is
asked with a probe), a runner writes its claim, waits a little, and looks whose claim stands: two
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

from overpaint.pipeline.errors import StoppedError, UsageError
from overpaint.pipeline.runs.folder import WORK, RunFolder
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import is_local

LEASE = f"{WORK}/lease.json"
_PROBE = f"{WORK}/probe"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How a lease is held.

    Args:
        heartbeat_s: the holder says that often that it lives.
        expiry_s: a lease whose holder was silent for so long may be taken over.
        settle_s: how long a claim must stand on a store without conditional writes.
    """

    heartbeat_s: float = 10.0
    expiry_s: float = 60.0
    settle_s: float = 2.0


@contextmanager
def held(folder: RunFolder, timing: Timing | None = None) -> Generator[None]:
    """Holds the lease of a run while its body runs.

    Raises:
        UsageError: another runner holds it.
    """
    timing = timing or Timing()
    lease = _Lease(folder, timing)
    lease.take()
    beat = threading.Thread(target=lease.keep, name="lease", daemon=True)
    beat.start()
    try:
        yield
    finally:
        lease.stopped.set()
        beat.join()
        lease.give_back()


class _Lease:
    """This process's claim to a run."""

    def __init__(self, folder: RunFolder, timing: Timing) -> None:
        self._folder = folder
        self._timing = timing
        self._holder = uuid.uuid4().hex
        self._beats = 0
        self.stopped = threading.Event()

    def take(self) -> None:
        """Claims the run; a holder that is silent long enough has died."""
        found = self._folder.read_json(LEASE)
        if found is not None:
            self._wait_until_silent(found)
            self._folder.storage.remove([LEASE])
        if has_conditional_writes(self._folder.storage):
            if not self._folder.storage.create(LEASE, self._claim()):
                raise self._refusal(self._folder.read_json(LEASE) or {})
            return
        log.warning(
            "%s cannot write conditionally: two runners that start in the same moment may both run",
            self._folder.storage.uri,
        )
        self._folder.storage.write(LEASE, self._claim())
        time.sleep(self._timing.settle_s)
        self._check()

    def _wait_until_silent(self, found: dict[str, object]) -> None:
        """A holder of this machine is looked up; another's heartbeat is watched."""
        if found.get("host") == platform.node() and not _is_alive(found.get("pid")):
            return
        deadline = time.monotonic() + self._timing.expiry_s
        while time.monotonic() < deadline:
            now = self._folder.read_json(LEASE)
            if now is None:
                return
            if now != found:
                raise self._refusal(now)
            time.sleep(self._timing.heartbeat_s / 4)

    def keep(self) -> None:
        """Renews the claim until it is stopped; a runner whose claim was taken over stops.

        While the store does not answer the claim can't be renewed: once it is back, it is seen
        whether another has taken over.
        """
        while not self.stopped.wait(self._timing.heartbeat_s):
            try:
                self._renew()
            except (StoppedError, OSError) as error:
                log.warning("the lease could not be renewed: %s", error)

    def _renew(self) -> None:
        found = self._folder.read_json(LEASE)
        if found is not None and found.get("holder") != self._holder:
            log.error("another runner took this run over: %s", found)
            self.stopped.set()
            _thread.interrupt_main()
            return
        self._folder.storage.write(LEASE, self._claim())

    def give_back(self) -> None:
        """Removes the claim where it is still ours."""
        found = self._folder.read_json(LEASE)
        if found is not None and found.get("holder") == self._holder:
            self._folder.storage.remove([LEASE])
            self._folder.storage.remove_empty_folder(WORK)

    def _check(self) -> None:
        found = self._folder.read_json(LEASE) or {}
        if found.get("holder") != self._holder:
            raise self._refusal(found)

    def _claim(self) -> bytes:
        self._beats += 1
        claim = {
            "holder": self._holder,
            "host": platform.node(),
            "pid": os.getpid(),
            "beat": self._beats,
        }
        return json.dumps(claim).encode()

    def _refusal(self, found: dict[str, object]) -> UsageError:
        return UsageError(
            f"{self._folder.storage.uri}: another runner is at work on this run (process "
            f"{found.get('pid')} on {found.get('host')}): wait for it, or stop it first"
        )


def _is_alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def has_conditional_writes(storage: Storage) -> bool:
    """Asks a store, with two small objects, whether a create over an object is refused."""
    if is_local(storage.uri):
        return True
    path = f"{_PROBE}-{uuid.uuid4().hex}"
    try:
        return storage.create(path, b"1") and not storage.create(path, b"2")
    finally:
        storage.remove([path])
