"""Command line of the training of all checkpoints, for machines without Overpaint's own.

It needs argparse alone: `python -m overpaint.jobs.training.parallel train --seconds 600 --out DIR`.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import overpaint.operators.models
from overpaint.jobs.training.parallel.launcher import Training, train_all
from overpaint.jobs.training.parallel.watch import watch
from overpaint.pipeline.errors import UsageError


def shipped_checkpoints() -> Path:
    """Returns the folder of the checkpoints that come with Overpaint."""
    return Path(str(overpaint.operators.models.__file__)).parent / "papercut"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a training, a lane of it, or a watch over it."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train", description=main.__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train all checkpoints")
    train.add_argument("--out", type=Path, required=True, help="empty or absent folder")
    train.add_argument("--seconds", type=float, required=True, help="duration of the training")
    train.add_argument("--device", choices=("cpu", "cuda"), required=True)
    train.add_argument("--shipped", type=Path, default=shipped_checkpoints())
    train.add_argument("--dry-run", action="store_true", help="a few steps of every stage")
    train.add_argument("--eager", action="store_true", help="record no step as a CUDA graph")
    train.add_argument("--only", nargs="+", default=(), help="checkpoints to train")
    train.set_defaults(run=_train)
    seen = commands.add_parser("watch", help="print the log of a training, and copy its results")
    seen.add_argument("out", type=Path)
    seen.add_argument("--for", type=float, dest="seconds", help="seconds; its end by default")
    seen.add_argument("--copy-to", type=Path)
    seen.add_argument("--archive-mb", type=float, help="largest archive; single files by default")
    seen.set_defaults(run=_watch)
    _add_lane(commands)
    return parser


def _add_lane(commands: Any) -> None:
    lane = commands.add_parser("lane", help="take stages in turn; `train` starts this")
    lane.add_argument("name", choices=("all", "latent", "perception"))
    for name in ("out", "drawn", "shipped"):
        lane.add_argument(f"--{name}", type=Path, required=True)
    for name in ("started", "deadline"):
        lane.add_argument(f"--{name}", type=float, required=True)
    lane.add_argument("--device", required=True)
    lane.add_argument("--most-steps", type=int)
    lane.add_argument("--eager", action="store_true")
    lane.add_argument("--only", nargs="+", default=())
    lane.set_defaults(run=_lane)


def _train(options: argparse.Namespace) -> int:
    training = Training(
        out=options.out,
        seconds=options.seconds,
        device=options.device,
        shipped=options.shipped,
        is_dry=options.dry_run,
        can_record=not options.eager,
        only=options.only,
    )
    return train_all(training)


def _watch(options: argparse.Namespace) -> int:
    return watch(
        options.out,
        seconds=options.seconds,
        copy_to=options.copy_to,
        archive_mb=options.archive_mb,
    )


def _lane(options: argparse.Namespace) -> int:
    warnings.filterwarnings("ignore")
    from overpaint.jobs.training.parallel.lane import run_lane

    run_lane(
        options.name,
        out=options.out,
        drawn=options.drawn,
        shipped=options.shipped,
        device=options.device,
        started=options.started,
        deadline=options.deadline,
        most_steps=options.most_steps,
        can_record=not options.eager,
        only=options.only,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
