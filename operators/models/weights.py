"""Weights of models: "papercut", a folder here or on a store, or a hub id at a revision.

Weights are read from safetensors alone and no code of a checkpoint is run. A folder is identified
by the SHA-256 of its weights and configurations, wherever it is, a hub id by its revision.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from overpaint.operators.models.fetching import (
    WEIGHT_SUFFIXES,
    fetch_from_hub,
    fetch_from_store,
    mirror_of,
)
from overpaint.pipeline.conditions import Condition
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.storage.filesystems import check_known
from overpaint.pipeline.storage.store import Storage

PAPERCUT = "papercut"
"""The checkpoints that come with Overpaint; they know nothing of photographs."""
DtypeName = Literal["float32", "bfloat16", "float16"]
"""Number types that a recipe can name."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH_STARTS = ("/", "./", "../", "~")
_CONFIGS = ("config.json", "model_index.json")
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")

_log = logging.getLogger(__name__)


class Addition(Protocol):
    """Weights that are added to those of a checkpoint, such as a LoRA."""

    @property
    def kind(self) -> str:
        """The kind, such as `lora`."""
        ...

    @property
    def file(self) -> str:
        """The name of the file of weights."""
        ...

    @property
    def image_encoder(self) -> str:
        """The folder of the encoder of pictures, where it has one."""
        ...

    @property
    def scale(self) -> float:
        """The factor of what is added."""
        ...

    @property
    def reads(self) -> Condition | None:
        """The condition of a row that is read; None where none is."""
        ...

    @property
    def fetched(self) -> Path:
        """The folder of the weights on this machine."""
        ...

    def check(self) -> None:
        """Checks, before anything is started, that the weights can be there."""
        ...

    def identity(self) -> str:
        """Returns the exact weights."""
        ...

    def fuse(self, pipeline: Any, name: str) -> None:
        """Adds them to the weights of a diffusers pipeline, under a name of its own."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Weights that an operator names, and the number type in which it uses them.

    Attributes:
        name: "papercut", a local folder, a folder on a store such as `s3://bucket/model`, or a hub
            id.
        part: papercut checkpoint that is meant, such as `clip`; unused for other names.
        revision: commit, tag or branch of a hub id, where None stands for `main`; of a folder on a
            store its identity, as `identity` gives it, which then is held to.
        variant: variant of the weight files, such as `fp16`; None takes a folder's only one.
        dtype: number type of the weights and of all that is computed with them.
        field: field of the operator that holds the name, for error messages.
        adapters: weights that are fused into those of a pipeline, in order.
        scheduler: values that replace those of a pipeline's scheduler, by name.

    Example:
        >>> Checkpoint(name="openai/clip-vit-large-patch14", part="clip").identity()
        'main'
    """

    name: str
    part: str = "text_to_image"
    revision: str | None = None
    variant: str | None = None
    dtype: DtypeName = "float32"
    field: str = "checkpoint"
    adapters: tuple[Addition, ...] = ()
    scheduler: tuple[tuple[str, bool | int | float | str], ...] = ()

    @property
    def is_on_hub(self) -> bool:
        """True for a repository of the hub: `owner/name`, and not a folder here."""
        return (
            self.name != PAPERCUT
            and not self.name.startswith(_PATH_STARTS)
            and _HUB_ID.fullmatch(self.name) is not None
            and not Path(self.name).is_dir()
        )

    @property
    def is_on_store(self) -> bool:
        """True for a folder on a store, such as `s3://bucket/model`."""
        return "://" in self.name

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of a row that adapters read, each once."""
        read = (adapter.reads for adapter in self.adapters)
        return tuple(dict.fromkeys(condition for condition in read if condition is not None))

    def fetched(self) -> "Checkpoint":
        """Returns the same weights as a folder of this machine, fetched where they are not here.

        Raises:
            ValueError: they cannot be had, or are others than `revision` says.
        """
        if self.is_on_hub:
            revision = self.revision or "main"
            mirror = mirror_of(self.name, revision)
            if mirror is None:
                folder = fetch_from_hub(self.name, revision, self.variant)
            else:
                folder = fetch_from_store(mirror, pinned=revision)
        elif self.is_on_store:
            folder = fetch_from_store(self.name, pinned=self.revision)
        else:
            return self
        found = replace(self, name=str(folder), revision=None)
        if self.is_on_store and self.revision not in (None, (digest := found.identity())):
            raise ValueError(
                f"{self.field} = {self.name!r}: revision = {self.revision!r}, and the files there "
                f"are {digest!r}"
            )
        return found

    @property
    def path(self) -> str:
        """The folder's path or the hub id, as `from_pretrained` takes it."""
        if self.is_on_store:
            return self.fetched().name
        if self.name == PAPERCUT:
            return str(_papercut_folder() / self.part)
        return self.name if self.is_on_hub else str(Path(self.name).expanduser().absolute())

    def source_options(self) -> dict[str, Any]:
        """Returns keywords of every `from_pretrained`: the revision, and to run no foreign code."""
        if not self.is_on_hub:
            return {"trust_remote_code": False, "local_files_only": True}
        return {"trust_remote_code": False, "revision": self.revision or "main"}

    def weight_options(self) -> dict[str, Any]:
        """Returns keywords of a model's `from_pretrained`: `source_options`, safetensors only."""
        return {**self.source_options(), "use_safetensors": True}

    def weights_variant(self) -> str | None:
        """Returns the variant to read: the one that is asked for, or a folder's only one."""
        folder = Path(self.path)
        if self.variant is not None or not folder.is_dir():
            return self.variant
        # model.safetensors has no variant; model.fp16.safetensors and its shards have one.
        names = [path.name.split(".") for path in folder.glob("*/*.safetensors")]
        variants = {name[1].split("-")[0] if len(name) > 2 else None for name in names}
        return variants.pop() if len(variants) == 1 else None

    def check(self, pipelines: tuple[str, ...] = ()) -> None:
        """Checks, before anything is started, that the weights can be there.

        A hub id is checked by its form alone: whether it can be had is seen when it is loaded.

        Args:
            pipelines: diffusers' pipeline classes that a folder may be of; none allows any folder
                with weights.

        Raises:
            ValueError: naming the field, the value and what would be right.
        """
        for adapter in self.adapters:
            adapter.check()
        if self.is_on_hub:
            _check_hub_id(self.field, self.name, self.revision)
            return
        if self.is_on_store:
            _check_on_store(self.field, self.name, self.revision)
            return
        if self.revision is not None:
            _log.warning(
                "revision = %r has no effect: %s = %r is not a hub id",
                *(self.revision, self.field, self.name),
            )
        if self.name == PAPERCUT:
            _check_papercut(self.field, self.part)
        else:
            _check_folder(self.field, self.name)
        kind = read_index(Path(self.path)).get("_class_name", "folder without model_index.json")
        if pipelines and kind not in pipelines:
            raise ValueError(
                f"{self.field} = {self.name!r} is a {kind}: this takes a {' or '.join(pipelines)}"
            )

    def identity(self) -> str:
        """Returns the exact weights: a hub id's revision, or 16 hex digits over a folder's files.

        Where adapters or values of the scheduler are added, 16 hex digits over those come after it.

        Raises:
            ValueError: the folder is missing, or an adapter's file.
        """
        added = [adapter.identity() for adapter in self.adapters]
        if not added and not self.scheduler:
            return self._own_identity()
        content = json.dumps([added, self.scheduler], sort_keys=True)
        return f"{self._own_identity()}+{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def _own_identity(self) -> str:
        if self.is_on_hub:
            return self.revision or "main"
        if self.is_on_store and self.revision is not None:
            return self.revision
        folder = Path(self.path)
        if not folder.is_dir():
            raise ValueError(f"{self.field} = {self.name!r}: no such folder: {folder}")
        return _digest(folder, tuple(_states(folder)))


def read_index(folder: Path) -> Mapping[str, Any]:
    """Returns the `model_index.json` of a pipeline's folder; empty where there is none."""
    index = folder / "model_index.json"
    return json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}


def parts_with_weights(checkpoint: Checkpoint) -> list[str]:
    """Returns the names of the parts of a pipeline's folder that hold safetensors."""
    folder = Path(checkpoint.path)
    names = read_index(folder)
    return [name for name in names if any((folder / name).glob("*.safetensors"))]


class _FileState(NamedTuple):
    """Name, size and time of a file, by which an unchanged one is known without reading it."""

    name: str
    num_bytes: int
    changed_ns: int


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


def _check_on_store(field: str, uri: str, revision: str | None) -> None:
    try:
        check_known(uri)
        storage = Storage(uri)
        if not any(storage.exists(name) for name in _CONFIGS):
            raise ValueError(f"{field} = {uri!r}: neither {_CONFIGS[0]} nor {_CONFIGS[1]} is there")
    except (UsageError, OSError) as error:
        raise ValueError(f"{field} = {uri!r}: {error}") from error
    if revision is None:
        _log.warning("%s = %r is not pinned: give its identity as revision", field, uri)


def _check_papercut(field: str, part: str) -> None:
    parts = [name for name in _folder_names(_papercut_folder()) if _is_whole(name)]
    if part not in parts:
        raise ValueError(
            f"{field} = {PAPERCUT!r}: this installation holds no papercut checkpoint {part!r}: "
            f"{near_miss(part, parts)}"
        )


def _is_whole(part: str) -> bool:
    return _weights_problem(_papercut_folder() / part) is None


def _check_folder(field: str, checkpoint: str) -> None:
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{field} = {checkpoint!r} is {_not_a_folder(checkpoint, folder)}")
    if problem := _weights_problem(folder):
        raise ValueError(f"{field} = {checkpoint!r}: {problem}")


def _not_a_folder(checkpoint: str, folder: Path) -> str:
    if get_close_matches(checkpoint, [PAPERCUT], n=1):
        return f"not a folder or a hub id: did you mean {PAPERCUT!r}?"
    if close := get_close_matches(folder.name, _folder_names(folder.parent), n=1):
        return f"not a folder: did you mean {str(folder.with_name(close[0]))!r}?"
    if checkpoint.startswith(_PATH_STARTS):
        return "not a folder: give one that holds a checkpoint"
    return f"not a folder or a hub id: give {PAPERCUT!r}, a folder, or owner/name"


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
        if path.suffix in WEIGHT_SUFFIXES and path.is_file() and not hidden:
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
