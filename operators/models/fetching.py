"""Weights that are not on this machine: fetched once a machine, by one process, under a lock.

They come from the hub, from a folder on a store (`s3://...`), or, where `OVERPAINT_MODEL_MIRROR`
names one, for hub ids from a mirror of the hub on a store: `MIRROR/owner/name/REVISION/`. They lie
in `OVERPAINT_MODELS`, or in the user's cache. The processes of a machine that start together wait
for the one that fetches; where the weights are there, nobody asks anybody.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.store import Storage, file_version, filesystem
from overpaint.pipeline.storage.uris import join

MODELS = "OVERPAINT_MODELS"
"""Environment variable: the folder of fetched weights."""
MIRROR = "OVERPAINT_MODEL_MIRROR"
"""Environment variable: a prefix of a store that has hub ids below it."""
WEIGHT_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""Endings of the files of a checkpoint that are read."""

_OFFLINE = "HF_HUB_OFFLINE"
_NUM_THREADS = 8
_LOCK_POLL_S = 0.1


def models_folder() -> Path:
    """Returns the folder of fetched weights."""
    given = os.environ.get(MODELS)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(cache) / "overpaint" / "models"


def mirror_of(name: str, revision: str) -> str | None:
    """Returns the URI at which the mirror has a hub id; None where there is no mirror."""
    mirror = os.environ.get(MIRROR)
    return join(mirror, f"{name}/{revision}") if mirror else None


def fetch_from_store(uri: str, pinned: str | None = None) -> Path:
    """Returns the folder of a checkpoint of a store, fetched where it is not here yet.

    Args:
        uri: prefix of the checkpoint's files.
        pinned: version of the checkpoint, where its files never change; None asks the store.

    Raises:
        ValueError: there are no files, or the machine is offline and has none.
    """
    if pinned is not None:
        place = models_folder() / _place(uri, pinned)
        return _once(place, lambda folder: _download(uri, _files(uri), folder))
    files = _files(uri)
    versions = {path: file_version(join(uri, path)) for path in files}
    place = models_folder() / _place(uri, repr(sorted(versions.items())))
    return _once(place, lambda folder: _download(uri, files, folder))


def fetch_from_hub(name: str, revision: str, variant: str | None) -> Path:
    """Returns the folder of a hub id in the hub's own cache, fetched where it is not there yet.

    Args:
        name: hub id.
        revision: commit, tag or branch.
        variant: variant of the weight files.

    Raises:
        ValueError: the hub does not have it, or does not answer, or the machine is offline.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    lock = models_folder() / _place(name, f"{revision}-{variant}")
    try:
        with _locked(lock):
            if _is_pipeline(name, revision):
                from diffusers.pipelines.pipeline_utils import DiffusionPipeline

                folder = DiffusionPipeline.download(
                    name, revision=revision, variant=variant, use_safetensors=True
                )
            else:
                patterns = [f"*{suffix}" for suffix in sorted(WEIGHT_SUFFIXES)]
                folder = snapshot_download(name, revision=revision, allow_patterns=patterns)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = f"{_OFFLINE} is set and it is not here" if os.environ.get(_OFFLINE) else error
        raise ValueError(f"{name} at {revision} cannot be fetched: {reason}") from error
    return Path(folder)


def _is_pipeline(name: str, revision: str) -> bool:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        hf_hub_download(name, "model_index.json", revision=revision)
    except LocalEntryNotFoundError:
        if os.environ.get(_OFFLINE):
            return False
        raise
    except EntryNotFoundError:
        return False
    return True


def _place(name: str, version: str) -> str:
    """Returns the name of a folder: readable, and another one for each version."""
    readable = "-".join(name.split("://")[-1].split("/")[-2:])
    return f"{readable}-{hashlib.sha256(repr((name, version)).encode()).hexdigest()[:16]}"


def _once(place: Path, fetch: Callable[[Path], None]) -> Path:
    """Returns a folder that is there; of all processes that ask for it, one fetches it."""
    if place.is_dir():
        return place
    with _locked(place):
        if not place.is_dir():
            partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
            try:
                fetch(partial)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return place


def _locked(place: Path) -> FileLock:
    place.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(place.with_name(f".{place.name}.lock"), poll_interval=_LOCK_POLL_S)


def _files(uri: str) -> Mapping[str, int]:
    """Returns the sizes of a checkpoint's files on a store, by path."""
    sizes = Storage(uri).sizes()
    files = {path: size for path, size in sizes.items() if Path(path).suffix in WEIGHT_SUFFIXES}
    if not files:
        raise ValueError(f"{uri}: no checkpoint is there: no safetensors and no configuration")
    return files


def _download(uri: str, files: Mapping[str, int], folder: Path) -> None:
    def get(path: str) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        retry_transient(filesystem(uri).get_file)(join(uri, path), str(target))
        if target.stat().st_size != files[path]:
            raise ValueError(f"{join(uri, path)}: came short: {target.stat().st_size} bytes")

    folder.mkdir(parents=True)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(get, files))
