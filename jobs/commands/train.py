"""train: training of the checkpoints on the drawn world, and import of trained ones."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console, print_figures
from overpaint.jobs.options import Count, NewFolder
from overpaint.pipeline.errors import UsageError


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(train)


def train(
    name: str | None = None,
    *,
    import_from: Annotated[Path | None, Parameter(name="--import")] = None,
    minutes: float | None = None,
    steps: int | None = None,
    start: Path | None = None,
    freeze: str = "",
    scenes: Count | None = None,
    learning_rate: float | None = None,
    device: str = "auto",
    seed: int = 0,
    only: str = "",
    force: str = "",
    out: NewFolder | None = None,
    state: NewFolder | None = None,
) -> int:
    """Trains a papercut checkpoint, goes on with one whose training stopped, or imports weights.

    Args:
        name: vae, text_to_image, clip, clipseg, caption, instruction, judge or sam.
        import_from: A folder of raw weights from another machine: each checkpoint is measured
            beside the present one, and taken where its main figure is not lower.
        minutes: Stop after that long; the state is kept.
        steps: How many steps in all; the checkpoint's own number where none is given.
        start: A folder of checkpoints: begin with the weights of its `name`, not with fresh ones.
            A state that is found goes before it.
        freeze: Parameters that stay as they are: beginnings of their names, such as vae.encoder.
        scenes: How many scenes, edits or pairs are drawn to train on, 60000 where none are given;
            or to measure an import by, 512.
        learning_rate: The highest; the checkpoint's own where none is given.
        device: auto, cpu or cuda.
        seed: Of the weights and the order of the scenes.
        only: Checkpoints to import, such as judge,sam; all where none is given.
        force: Checkpoints to import even where their figures are lower.
        out: Where the checkpoint goes; its place in the package where none is given.
        state: Where trainings keep their states and what they draw; ~/.cache/overpaint/training
            where none is given.
    """
    if (name is None) == (import_from is None):
        raise UsageError("train takes one of a checkpoint's name and --import DIR")
    if import_from is not None:
        return _import(import_from, scenes or 512, _split(only), _split(force), out)
    if only or force:
        raise UsageError("--only and --force belong to --import")
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.loop import TrainingBudget, resolve_device
        from overpaint.jobs.training.train import train as run
        from overpaint.jobs.training.workspace import Workspace, default_state_folder

    has_end = steps is not None or minutes is not None
    try:
        workspace = Workspace(
            checkpoints=out or _shipped(),
            state=state or default_state_folder(),
            device=resolve_device(device),
            start=start,
            num_train=scenes or 60_000,
            learning_rate=learning_rate,
        )
        budget = TrainingBudget(steps=steps, minutes=minutes) if has_end else None
        run(str(name), workspace, budget=budget, freeze=_split(freeze), seed=seed)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    return 0


def _import(folder: Path, scenes: int, only: list[str], force: list[str], out: Path | None) -> int:
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.parallel.importing import ImportRequest, import_checkpoints

    shipped = _shipped()
    request = ImportRequest(
        folder=folder,
        checkpoints=out or shipped,
        shipped=shipped,
        only=only,
        force=force,
        num_scenes=scenes,
    )
    try:
        result = import_checkpoints(request, console.print)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print_figures(result.rows)
    for sentence in result.sentences:
        console.print(sentence)
    return 0


def _shipped() -> Path:
    return Path(str(files("overpaint.operators.models"))) / "papercut"


def _split(names: str) -> list[str]:
    return [part for part in names.split(",") if part]
