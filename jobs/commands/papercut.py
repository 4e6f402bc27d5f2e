"""papercut, train: the drawn world and the checkpoints trained on it."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import Count, NewFolder
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.papercut.edits import EDIT_TYPES
from overpaint.pipeline.errors import UsageError


def register(app: App) -> None:
    """Adds these commands to the app."""
    app.command(papercut)
    app.command(train)


def papercut(
    out: NewFolder,
    *,
    rows: Annotated[int, Parameter(name="--rows")],
    seed: int = 0,
    edit_types: str = "color,replace",
) -> int:
    """Writes a folder of drawn images with rows.jsonl: instructions, masks, and the true edits.

    Args:
        out: The folder to write; it must be empty or absent.
        rows: How many edits, each of its own image.
        seed: Another seed gives other scenes.
        edit_types: A list such as color,replace, or `all` for the twelve.
    """
    types = list(EDIT_TYPES) if edit_types == "all" else edit_types.split(",")
    try:
        write_dataset(out, rows=rows, seed=seed, edit_types=types)
    except ValueError as error:
        raise UsageError(str(error)) from error
    console.print(f"wrote {rows} edits to {out}/rows.jsonl")
    return 0


def train(
    name: str,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    start: Path | None = None,
    freeze: str = "",
    scenes: Count = 60_000,
    learning_rate: float | None = None,
    device: str = "auto",
    seed: int = 0,
    out: NewFolder | None = None,
    state: NewFolder | None = None,
) -> int:
    """Trains a papercut checkpoint, or goes on with one whose training stopped.

    Args:
        name: vae, text_to_image, clip, clipseg, caption, instruction, judge or sam.
        minutes: Stop after that long; the state is kept.
        steps: How many steps in all; the checkpoint's own number where none is given.
        start: A folder of checkpoints: begin with the weights of its `name`, not with fresh ones.
            A state that is found goes before it.
        freeze: Parameters that stay as they are: beginnings of their names, such as vae.encoder.
        scenes: How many scenes, edits or pairs are drawn to train on.
        learning_rate: The highest; the checkpoint's own where none is given.
        device: auto, cpu or cuda.
        seed: Of the weights and the order of the scenes.
        out: Where the checkpoint goes; its place in the package where none is given.
        state: Where trainings keep their states and what they draw; ~/.cache/overpaint/training
            where none is given.
    """
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.loop import TrainingBudget, resolve_device
        from overpaint.jobs.training.train import train as run
        from overpaint.jobs.training.workspace import Workspace, default_state_folder

    has_end = steps is not None or minutes is not None
    frozen = [part for part in freeze.split(",") if part]
    try:
        workspace = Workspace(
            checkpoints=out or Path(str(files("overpaint.operators.models"))) / "papercut",
            state=state or default_state_folder(),
            device=resolve_device(device),
            start=start,
            num_train=scenes,
            learning_rate=learning_rate,
        )
        budget = TrainingBudget(steps=steps, minutes=minutes) if has_end else None
        run(name, workspace, budget=budget, freeze=frozen, seed=seed)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    return 0
