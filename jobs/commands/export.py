"""export: finished runs as a data set that trainers load."""

from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.export.export import export as export_runs
from overpaint.jobs.export.formats import layouts
from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.options import Flag
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.terms import TERMS

_LAYOUTS = {name: [like for like in likes if like] for name, likes in layouts().items()}
_FORMAT_HELP = f"One of {', '.join(_LAYOUTS)}; or my_package.module:ClassName."
_LIKE_HELP = "Whose layout of the format: " + "; ".join(
    f"{name} {'|'.join(likes)}" for name, likes in _LAYOUTS.items() if likes
)


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(export)


def export(
    *folders: str,
    format: Annotated[str, Parameter(help=_FORMAT_HELP)],
    like: Annotated[str | None, Parameter(help=_LIKE_HELP)] = None,
    best: Flag = False,
    all_rows: Annotated[bool, Parameter(name="--all", negative="")] = False,
    rank_by: str | None = None,
    min_margin: float | None = None,
    split: str = "train=1",
    near_bits: int = 4,
    fit: str = "refuse",
    reverse: Flag = False,
    caption: str = "instruction",
    background: str = "white",
    image_format: str = "png",
) -> int:
    """Exports finished runs as a data set that trainers load, with a card.

    Args:
        folders: One or several run folders, and at the end the folder to write: empty or absent.
        format: The layout of the data set.
        like: Whose layout of the format.
        best: One candidate of each request, the best by rank; of preferences, the best against the
            worst alone.
        all_rows: Rejected rows that have pictures, too.
        rank_by: The score that ranks candidates, else the one by which the run's policy chooses,
            lmm_score or clip_sim_dir; higher is better where that policy does not say otherwise.
        min_margin: The least lead of the best candidate over the next, or of a winner over a loser.
        split: Shares such as train=0.9,validation=0.05,test=0.05; near-duplicate sources are in
            one split.
        near_bits: Sources whose perceptual hashes differ in at most so many of 64 bits are near
            duplicates.
        fit: What happens to a pair of unequal sizes: refuse, or crop to what both share.
        reverse: From the edited image back to the source, by the column inverse_instruction.
        caption: The column that holds the words of a pair.
        background: The colour under transparent pixels.
        image_format: png, jpg or webp.
    """
    if len(folders) < 2:
        raise UsageError("name one or several run folders, and at the end the folder to write")
    *outputs, destination = folders
    request = ExportRequest(
        format=format,
        like=like,
        best=best,
        all_rows=all_rows,
        rank_by=rank_by,
        min_margin=min_margin,
        split=split,
        near_bits=near_bits,
        fit=fit,
        reverse=reverse,
        caption=caption,
        background=background,
        image_format=image_format,
    )
    _print(export_runs(outputs, destination, request), destination)
    return 0


def _print(facts: dict[str, Any], destination: str) -> None:
    splits = ", ".join(f"{name} {number}" for name, number in facts["splits"].items())
    console.print(f"wrote {facts['examples']} {facts['kind']} to {destination} ({splits})")
    for reason, number in facts["left_out"].items():
        console.print(f"left out: {number} {reason}")
    for terms in dict.fromkeys(run["terms"] for run in facts["runs"] if run["terms"]):
        console.print(f"terms of the editor: {terms}: {TERMS.get(terms, 'see the card')}")
    console.print(f"next: overpaint verify {destination}")
