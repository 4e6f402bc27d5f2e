"""train: training of the checkpoints on the drawn world, and import of trained ones."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console, print_figures
from overpaint.jobs.options import Count, Flag, NewFolder
from overpaint.pipeline.errors import UsageError

_DRY_RUN_S = 900.0


@dataclass(frozen=True, kw_only=True)
class OneOptions:
    """Options of the training of one checkpoint.

    Attributes:
        minutes: Stop after that long; the state is kept.
        steps: How many steps in all; the checkpoint's own number where none is given.
        start: A folder of checkpoints: begin with the weights of its `name`, not with fresh ones.
            A state that is found goes before it.
        freeze: Parameters that stay as they are: beginnings of their names, such as vae.encoder.
        learning_rate: The highest; the checkpoint's own where none is given.
        seed: Of the weights and the order of the scenes.
        state: Where trainings keep their states and what they draw; ~/.cache/overpaint/training
            where none is given.
    """

    minutes: float | None = None
    steps: int | None = None
    start: Path | None = None
    freeze: str = ""
    learning_rate: float | None = None
    seed: int = 0
    state: NewFolder | None = None


@dataclass(frozen=True, kw_only=True)
class ManyOptions:
    """Options of the training of all checkpoints.

    Attributes:
        seconds: Its duration, drawing and all else included; a dry run may do without.
        dry_run: Take a few steps of every stage only, to see that all of it works.
        eager: Record no step as a CUDA graph.
        start_from: A folder of checkpoints to start from; the package's own where none is given.
    """

    seconds: float | None = None
    dry_run: Flag = False
    eager: Flag = False
    start_from: Path | None = None


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Options of a watch.

    Attributes:
        watch_seconds: Stop watching after that long; the training goes on.
        copy_to: A folder to copy weights, facts and logs to, every minute and at the end.
        archive_mb: Copy archives of at most that many MB, not single files.
    """

    watch_seconds: float | None = None
    copy_to: NewFolder | None = None
    archive_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of an import.

    Attributes:
        force: Checkpoints to import even where their figures are lower.
    """

    force: str = ""


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(train)


def train(
    name: str | None = None,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    import_from: Annotated[Path | None, Parameter(name="--import")] = None,
    watch_over: Annotated[Path | None, Parameter(name="--watch")] = None,
    one: Annotated[OneOptions | None, Parameter(name="*", group="A checkpoint: NAME")] = None,
    many: Annotated[ManyOptions | None, Parameter(name="*", group="All of them: --all")] = None,
    seen: Annotated[WatchOptions | None, Parameter(name="*", group="--watch")] = None,
    brought: Annotated[ImportOptions | None, Parameter(name="*", group="--import")] = None,
    only: str = "",
    device: str = "auto",
    scenes: Count | None = None,
    out: NewFolder | None = None,
) -> int:
    """Trains a papercut checkpoint or all of them, or imports weights of another machine.

    Args:
        name: vae, text_to_image, clip, clipseg, caption, instruction, judge or sam: trains this
            one, or goes on where its training stopped.
        everything: Train all of them but clip, and inpainting, for `--seconds`; their raw weights
            go to `--out`, for `--import`.
        import_from: A folder of raw weights: each checkpoint is measured beside the present one,
            and taken where its main figure is not lower.
        watch_over: The folder of a training of all that runs: print its log until it ends.
        one: Of the training of one.
        many: Of the training of all.
        seen: Of a watch.
        brought: Of an import.
        only: Checkpoints to train by --all or to import, such as judge,sam; all where none is
            given.
        device: auto, cpu or cuda.
        scenes: How many scenes, edits or pairs are drawn to train a checkpoint on, 60000 where
            none are given; or to measure an import by, 512.
        out: Where the checkpoint goes; its place in the package where none is given. With --all,
            an empty folder or a new one.
    """
    groups = {"NAME": (name, one), "--all": (everything or None, many)}
    groups |= {"--import": (import_from, brought), "--watch": (watch_over, seen)}
    chosen = _only_way(groups)
    if only and chosen not in ("--all", "--import"):
        raise UsageError("--only belongs to train --all and train --import")
    if chosen == "--watch":
        return _watch(Path(str(watch_over)), seen or WatchOptions())
    if chosen == "--all":
        return _train_all(many or ManyOptions(), _split(only), device, out)
    if chosen == "--import":
        options = brought or ImportOptions()
        return _import(Path(str(import_from)), options, _split(only), scenes or 512, out)
    return _train_one(str(name), one or OneOptions(), device, scenes or 60_000, out)


def _only_way(groups: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns the one way of training that is asked for, whose options alone are given."""
    ways = [way for way, (value, _) in groups.items() if value is not None]
    if len(ways) != 1:
        found = f", not {' and '.join(ways)}" if ways else ""
        raise UsageError(f"train takes one of {', '.join(groups)}{found}")
    for way, (_, options) in groups.items():
        if options is not None and way != ways[0]:
            given = [f.name for f in fields(options) if getattr(options, f.name) != f.default]
            if given:
                raise UsageError(f"--{given[0].replace('_', '-')} belongs to train {way}")
    return ways[0]


def _train_one(name: str, options: OneOptions, device: str, scenes: int, out: Path | None) -> int:
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.loop import TrainingBudget, resolve_device
        from overpaint.jobs.training.train import train as run
        from overpaint.jobs.training.workspace import Workspace, default_state_folder

    has_end = options.steps is not None or options.minutes is not None
    try:
        workspace = Workspace(
            checkpoints=out or _shipped(),
            state=options.state or default_state_folder(),
            device=resolve_device(device),
            start=options.start,
            num_train=scenes,
            learning_rate=options.learning_rate,
        )
        budget = TrainingBudget(steps=options.steps, minutes=options.minutes) if has_end else None
        run(name, workspace, budget=budget, freeze=_split(options.freeze), seed=options.seed)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    return 0


def _train_all(options: ManyOptions, only: list[str], device: str, out: Path | None) -> int:
    from overpaint.jobs.training.loop import resolve_device
    from overpaint.jobs.training.parallel.launcher import Training, train_all

    if out is None:
        raise UsageError("train --all writes raw weights: name an empty folder with --out")
    if options.seconds is None and not options.dry_run:
        raise UsageError("train --all takes its duration: --seconds")
    try:
        kind = resolve_device(device).type
    except ValueError as error:
        raise UsageError(str(error)) from error
    training = Training(
        out=out,
        seconds=_DRY_RUN_S if options.seconds is None else options.seconds,
        device=kind,
        shipped=options.start_from or _shipped(),
        is_dry=options.dry_run,
        can_record=not options.eager,
        only=only,
    )
    return train_all(training)


def _watch(out: Path, options: WatchOptions) -> int:
    from overpaint.jobs.training.parallel.watch import watch

    if not out.is_dir():
        raise UsageError(f"--watch {out}: no such folder")
    return watch(
        out,
        seconds=options.watch_seconds,
        copy_to=options.copy_to,
        archive_mb=options.archive_mb,
    )


def _import(
    folder: Path, options: ImportOptions, only: list[str], scenes: int, out: Path | None
) -> int:
    from overpaint.operators.models.pretrained import quietly

    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.parallel.importing import ImportRequest, import_checkpoints

    shipped = _shipped()
    request = ImportRequest(
        folder=folder,
        checkpoints=out or shipped,
        shipped=shipped,
        only=only,
        force=_split(options.force),
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
