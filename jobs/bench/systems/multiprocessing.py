"""A script that shares a folder out among processes, as the documentation of `Pool` shows.

Processes are started afresh (`spawn`), as models on GPUs need it.
"""

from multiprocessing import get_context

from overpaint.jobs.bench.busy_system import Job, System
from overpaint.jobs.bench.systems.loop import edit_all


class Multiprocessing(System):
    """A process for each model, over a shard of the files each: the same loop in every one."""

    def run(self, job: Job) -> None:
        """Edits the shards side by side."""
        paths = sorted(job.source.iterdir())
        shards = [paths[index :: job.actors] for index in range(job.actors)]
        with get_context("spawn").Pool(job.actors) as pool:
            pool.starmap(edit_all, [(job, shard) for shard in shards])
