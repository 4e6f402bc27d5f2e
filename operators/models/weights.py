"""What a `checkpoint` field means: "papercut", a local folder, or a hub id at a revision.

Weights are read from safetensors alone and no code of a checkpoint is run. A folder is identified
by the SHA-256 of its weights and configurations, a hub id by its revision.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from overpaint.pipeline.errors import near_miss

PAPERCUT = "papercut"
"""The checkpoints that come with Overpaint; they know nothing of photographs."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH_STARTS = ("/", "./", "../", "~")
_CONFIGS = ("config.json", "model_index.json")
_IDENTITY_SUFFIXES = {".safetensors", ".json", ".txt", ".model", ".jinja"}
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")

_log = logging.getLogger(__name__)


class _FileState(NamedTuple):
    """What tells, without reading it, that a file is still the same."""

    name: str
    num_bytes: int
    changed_ns: int


def is_hub_id(checkpoint: str) -> bool:
    """Whether `checkpoint` names a repository of the hub: `owner/name`, and no folder here."""
    return (
        checkpoint != PAPERCUT
        and not checkpoint.startswith(_PATH_STARTS)
        and _HUB_ID.fullmatch(checkpoint) is not None
        and not Path(checkpoint).is_dir()
    )


def resolve(checkpoint: str, part: str) -> str:
    """What `from_pretrained` takes for this checkpoint: a folder's path or a hub id.

    Args:
        checkpoint: "papercut", a local folder, or a hub id.
        part: which papercut checkpoint is meant, such as `clip`; unused for the others.
    """
    if checkpoint == PAPERCUT:
        return str(_papercut_folder() / part)
    return checkpoint if is_hub_id(checkpoint) else str(Path(checkpoint).expanduser().absolute())


def source_options(checkpoint: str, revision: str | None) -> dict[str, Any]:
    """Keywords of every `from_pretrained`: the revision, and that no foreign code is run."""
    if not is_hub_id(checkpoint):
        return {"trust_remote_code": False, "local_files_only": True}
    return {"trust_remote_code": False, "revision": revision or "main"}


def weight_options(checkpoint: str, revision: str | None) -> dict[str, Any]:
    """Keywords of a model's `from_pretrained`: as `source_options`, and safetensors only."""
    return {**source_options(checkpoint, revision), "use_safetensors": True}


def check(field: str, checkpoint: str, part: str, revision: str | None = None) -> None:
    """Looks whether a checkpoint can be there, before anything is started.

    A hub id is checked by its form alone: whether it can be had is seen when it is loaded.

    Args:
        field: the operator's field, for the message.
        checkpoint: its value.
        part: which papercut checkpoint is meant.
        revision: a commit, tag or branch of the hub; null stands for `main`.

    Raises:
        ValueError: naming the field, the value and what would be right.
    """
    if is_hub_id(checkpoint):
        _check_hub_id(field, checkpoint, revision)
        return
    if revision is not None:
        _log.warning(
            "revision = %r has no effect: %s = %r is no hub id", revision, field, checkpoint
        )
    if checkpoint == PAPERCUT:
        _check_papercut(field, part)
    else:
        _check_folder(field, checkpoint)


def identity(checkpoint: str, revision: str | None, part: str) -> str:
    """The exact weights: a hub id's revision, or 16 hex digits over a folder's files.

    Raises:
        ValueError: a folder is missing.
    """
    if is_hub_id(checkpoint):
        return revision or "main"
    folder = Path(resolve(checkpoint, part))
    if not folder.is_dir():
        raise ValueError(f"checkpoint = {checkpoint!r}: no such folder: {folder}")
    return _digest(folder, tuple(_states(folder)))


def _papercut_folder() -> Path:
    return Path(__file__).parent / "papercut"


def _check_hub_id(field: str, checkpoint: str, revision: str | None) -> None:
    parent, name = Path(checkpoint).parent, Path(checkpoint).name
    if close := get_close_matches(name, _folder_names(parent), n=1):
        raise ValueError(
            f"{field} = {checkpoint!r}: no such folder: did you mean {str(parent / close[0])!r}?"
        )
    if revision is None:
        _log.warning("%s = %r is not pinned: give its commit as revision", field, checkpoint)


def _check_papercut(field: str, part: str) -> None:
    known = [name for name in _folder_names(_papercut_folder()) if _is_whole(name)]
    if part not in known:
        raise ValueError(
            f"{field} = {PAPERCUT!r}: this installation holds no papercut checkpoint {part!r}: "
            f"{near_miss(part, known)}"
        )


def _is_whole(part: str) -> bool:
    return _weights_problem(_papercut_folder() / part) is None


def _check_folder(field: str, checkpoint: str) -> None:
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{field} = {checkpoint!r} is {_no_folder(checkpoint, folder)}")
    if problem := _weights_problem(folder):
        raise ValueError(f"{field} = {checkpoint!r}: {problem}")


def _no_folder(checkpoint: str, folder: Path) -> str:
    if get_close_matches(checkpoint, [PAPERCUT], n=1):
        return f"no folder and no hub id: did you mean {PAPERCUT!r}?"
    if close := get_close_matches(folder.name, _folder_names(folder.parent), n=1):
        return f"no folder: did you mean {str(folder.with_name(close[0]))!r}?"
    if checkpoint.startswith(_PATH_STARTS):
        return "no folder: give one that holds a checkpoint"
    return f"no folder and no hub id: give {PAPERCUT!r}, a folder, or owner/name"


def _weights_problem(folder: Path) -> str | None:
    if not any((folder / name).is_file() for name in _CONFIGS):
        return f"the folder holds neither {_CONFIGS[0]} nor {_CONFIGS[1]}"
    if any(folder.rglob("*.safetensors")):
        return None
    if any(next(folder.rglob(pattern), None) for pattern in _PICKLES):
        return "its weights are pickled: only safetensors are read, convert them"
    return "the folder holds no safetensors weights"


def _folder_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _states(folder: Path) -> Iterator[_FileState]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix in _IDENTITY_SUFFIXES and path.is_file() and not hidden:
            state = path.stat()
            yield _FileState(name.as_posix(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(folder: Path, states: tuple[_FileState, ...]) -> str:
    hasher = hashlib.sha256()
    for state in states:
        with (folder / state.name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        hasher.update(f"{state.name}\0{content}\n".encode())
    return hasher.hexdigest()[:16]
