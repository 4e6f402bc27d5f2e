"""Processes that ask for the same weights at the same moment."""

import multiprocessing
import os

from overpaint.operators.models.weights import Checkpoint


def ask(barrier, environment, uri, revision, found):
    """Fetches once all others are ready to fetch."""
    os.environ.update(environment)
    barrier.wait()
    found.put(Checkpoint(name=uri, revision=revision).fetched().path)


def ask_at_once(number, environment, uri, revision=None):
    """Returns the exit codes of processes that fetch weights, and the folders that they found."""
    # Imports are done once, and not by every process.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["weights_askers", "s3fs"])
    barrier, found = context.Barrier(number), context.Queue()
    given = (barrier, environment, uri, revision, found)
    processes = [context.Process(target=ask, args=given) for _ in range(number)]
    for process in processes:
        process.start()
    folders = {found.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    return [process.exitcode for process in processes], folders
