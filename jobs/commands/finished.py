"""redrive, accept, replay: the commands that go back to rows of a run."""

from collections.abc import Sequence
from typing import Any

from cyclopts import App
from overpaint.jobs.commands.output import console, print_result, servers_sentence
from overpaint.jobs.options import LOCAL_RAY, Flag, RayOptions, Uri
from overpaint.jobs.runs import accept as accepting
from overpaint.jobs.runs import redrive as redriving
from overpaint.jobs.runs import replay as replaying
from overpaint.jobs.runs.display import RunDisplay
from overpaint.jobs.runs.retry import retry
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.checks import check_folder


def register(app: App) -> None:
    """Adds these commands to the app."""
    for command in (redrive, accept, replay):
        app.command(command)


def redrive(
    output: Uri,
    *,
    error_code: str | None = None,
    rejected: Flag = False,
    tries: int = 4,
    method: Sequence[str] = (),
    where: RayOptions = LOCAL_RAY,
    insecure_cluster: Flag = False,
) -> int:
    """Tries the failed rows of a run again, alone; the same command goes on where it stopped.

    With --rejected, edits of which no try is accepted get the next seed or editor instead.

    Args:
        output: The run folder.
        error_code: Only rows that failed with it, such as source_missing.
        rejected: Try edits again that were made and rejected, until one of their tries is accepted.
        tries: Most tries that a rejected edit may have, those that the run has made among them.
        method: A choice of the recipe's edit that tries rejected edits too; may be repeated.
        where: Options that say where rows run.
        insecure_cluster: Join a cluster that asks for no token, where nobody else can reach it.
    """
    if rejected and error_code is not None:
        raise UsageError(
            "--error-code is of failed rows, and --rejected of rejected ones: give one"
        )
    if method and not rejected:
        raise UsageError("--method is of rejected edits: give it with --rejected")
    how: dict[str, Any] = {
        "ray": where.ray,
        "session": where.session(allow_open=insecure_cluster),
        "display": RunDisplay(console),
    }
    result = (
        retry(output, tries=tries, methods=method, **how)
        if rejected
        else redriving.redrive(output, error_code=error_code, **how)
    )
    print_result(result)
    return 0


def accept(output: Uri, *, policy: str) -> int:
    """Applies another acceptance policy to a finished run; nothing is edited again.

    Args:
        output: The run folder.
        policy: A TOML file with bounds on scores, such as clip_sim_dir = { min = 0.2 }; or the
            name of a policy: instruct-pix2pix, ultraedit, strict or off.
    """
    print_result(accepting.accept(output, accepting.read_policy(policy)))
    return 0


def replay(output: Uri, key: str, *, to: Uri | None = None) -> int:
    """Does one row of a run again, here, and compares the bytes with the run's.

    Args:
        output: The run folder.
        key: Key of the row, or enough of its first digits.
        to: A folder to write the row's images into.
    """
    if to is not None:
        check_folder(to)
    replayed = replaying.replay(RunFolder.at(output), key)
    for name, value in replayed.values.items():
        console.print(f"{name} = {value}")
    if to is not None:
        names = replaying.write_images(replayed, to)
        console.print(f"wrote {', '.join(names)} to {to}")
    ending = f"; the row {replayed.ending}" if replayed.ending else ""
    recorded = replayed.recorded_sha256 or "none recorded"
    if replayed.unrepeatable and not replayed.is_equal:
        console.print(f"edited image cannot be compared with the run's ({recorded}){ending}")
        console.print(f"another answer came this time: {servers_sentence(replayed.unrepeatable)}")
        return 0
    word = "equal to" if replayed.is_equal else "different from"
    console.print(f"edited image {word} the run's ({recorded}){ending}")
    return 0 if replayed.is_equal else 1
