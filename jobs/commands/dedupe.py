"""dedupe: near-duplicates among the sources of a data set."""

from cyclopts import App
from overpaint.jobs.commands.output import console
from overpaint.jobs.dedupe.dedupe import Keep
from overpaint.jobs.dedupe.dedupe import dedupe as write_table
from overpaint.jobs.options import Uri
from overpaint.pipeline.runs.folder import RunFolder


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(dedupe)


def dedupe(hashes: Uri, *, output: Uri, near_bits: int = 4, keep: Keep = "first") -> int:
    """Writes which sources of a data set are near-duplicates, so that a run refuses them.

    `overpaint run hashes --input PHOTOS --output HASHES` hashes each source, on Ray and resumable.
    The table that this writes is for the stage `dedupe` of any recipe over the same input, with
    `table = OUTPUT` and before the first model.

    Args:
        hashes: A finished run whose rows have phash_source.
        output: The Parquet file to write.
        near_bits: Sources whose perceptual hashes differ in at most so many of 64 bits, 0 to 8,
            are near-duplicates.
        keep: The source that is kept of several: the first in the run's order, or the largest in
            pixels.
    """
    found = write_table(RunFolder.at(hashes), output, near_bits=near_bits, keep=keep)
    kept = found.sources - found.refused
    console.print(
        f"{found.sources} sources: {kept} kept, {found.refused} near-duplicates of them; "
        f"{found.unreadable} could not be hashed, and are kept"
    )
    console.print(f"table {output}")
    return 0
