"""Equal files of several checkpoints, kept once: the others are relative symbolic links to it.

The latent pipelines share one vae and one tokenizer. Links are to files: a walk through a folder
does not enter linked folders, and would miss weights in them.
"""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

# A link to a smaller file saves nothing and is harder to read.
_LEAST_BYTES = 4096


def share_files(checkpoints: Path) -> None:
    """Replaces all but one of equal files in a folder of checkpoints by links to the one.

    The file that stays is the one with the shortest path, the first by name among those.

    Args:
        checkpoints: folder with one folder for each checkpoint.
    """
    equal: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for path in _files(checkpoints):
        if path.stat().st_size >= _LEAST_BYTES:
            equal[path.stat().st_size, _digest(path)].append(path)
    for paths in equal.values():
        kept, *others = sorted(paths, key=lambda path: (len(path.parts), path))
        if kept.is_symlink():
            _copy_target(kept)
        for other in others:
            _link(other, kept)


@contextmanager
def own_files(checkpoints: Path, name: str) -> Generator[None]:
    """Gives other checkpoints copies of what they share with one that is about to be replaced.

    Afterwards equal files are shared again, where some were shared before.

    Args:
        checkpoints: folder with one folder for each checkpoint.
        name: checkpoint that is replaced.
    """
    links = [path for path in _files(checkpoints) if path.is_symlink()]
    replaced = (checkpoints / name).resolve()
    for link in links:
        if link.resolve().is_relative_to(replaced):
            _copy_target(link)
    try:
        yield
    finally:
        if links:
            share_files(checkpoints)


def _files(checkpoints: Path) -> list[Path]:
    """Returns the files of checkpoints; folders that are being written are hidden ones."""
    files = (path for path in checkpoints.rglob("*") if path.is_file())
    return [p for p in files if not p.relative_to(checkpoints).parts[0].startswith(".")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(path: Path, target: Path) -> None:
    wanted = Path(os.path.relpath(target, path.parent))
    if path.is_symlink() and path.readlink() == wanted:
        return
    temporary = path.with_name(f".{path.name}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(wanted)
    temporary.replace(path)


def _copy_target(link: Path) -> None:
    temporary = link.with_name(f".{link.name}.copy")
    shutil.copyfile(link, temporary)
    temporary.replace(link)
