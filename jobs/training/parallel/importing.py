"""Import of raw weights: folders, figures beside those of today, and what is not worse is taken.

The vae and the latent pipelines on it go together or not at all: each knows the latents of the one
vae alone.
"""

import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from overpaint.jobs.training.evaluate import MEASURES
from overpaint.jobs.training.loop import replacement
from overpaint.jobs.training.measuring import write_cards
from overpaint.jobs.training.parallel.deciding import ON_VAE, Rows, comparison, rejections
from overpaint.jobs.training.parallel.measuring_alone import measure_alone
from overpaint.jobs.training.parallel.raw_weights import raw_files, read_facts
from overpaint.jobs.training.parallel.staging import Staging, latents_differ
from overpaint.jobs.training.sharing import share_files
from overpaint.operators.models.pretrained import quietly
from overpaint.pipeline.errors import near_miss

log = logging.getLogger(__name__)

_SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRequest:
    """Raw weights to import, and conditions.

    Attributes:
        folder: folder of the raw weights.
        checkpoints: folder of checkpoints that are compared and replaced; where it holds none, it
            gets those of `shipped` first.
        shipped: folder of the checkpoints that come along.
        only: checkpoints to import; none for all of the folder.
        force: checkpoints that are taken with lower figures too.
        num_scenes: number of unseen scenes by which checkpoints are compared.
        num_processes: number of checkpoints that are measured at a time.
    """

    folder: Path
    checkpoints: Path
    shipped: Path
    only: Sequence[str] = ()
    force: Collection[str] = ()
    num_scenes: int = 512
    num_processes: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def today(self) -> Path:
        """The folder of the checkpoints to compare with."""
        is_there = any((self.checkpoints / name).is_dir() for name in MEASURES)
        return self.checkpoints if is_there else self.shipped


class ImportResult(NamedTuple):
    """Result of an import.

    Attributes:
        taken: checkpoints that were replaced.
        rows: figures: checkpoint, figure, shipped and new value, and what was decided.
        sentences: what is to be known beside the table.
    """

    taken: list[str]
    rows: list[dict[str, Any]]
    sentences: list[str]


def import_checkpoints(
    request: ImportRequest, say: Callable[[str], object] = log.info
) -> ImportResult:
    """Imports raw weights, and replaces each checkpoint whose main figure is not lower than before.

    Args:
        request: raw weights and conditions.
        say: is told of each checkpoint once it is measured.

    Raises:
        ValueError: the raw weights are broken or incomplete, or a name is unknown; one sentence,
            and nothing is changed.
    """
    with TemporaryDirectory() as temporary, raw_files(request.folder) as files, quietly():
        names = _chosen(files, request)
        staged = Path(temporary)
        staging = Staging(shipped=request.today, folder=staged, facts=read_facts(files))
        for name in names:
            staging.stage(name, files[name + _SUFFIX])
        held_back = _held_back(names, files, staging)
        compared = [name for name in names if name not in held_back]
        before, after = _measure_both(staging, compared, request, say)
        problems = held_back | rejections(compared, before, after, request.force)
        taken = [name for name in names if name not in problems]
        write_cards(staged, [row for row in after if row["checkpoint"] in taken])
        if taken:
            _replace(staging, request, taken)
        rows = comparison(before, after, problems)
        return ImportResult(taken, rows, _sentences(taken, problems))


def _chosen(files: Mapping[str, Path], request: ImportRequest) -> list[str]:
    """Returns the checkpoints to import, in the order of `MEASURES`, the vae first."""
    found = [name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)]
    for name in found:
        if name not in MEASURES:
            hint = near_miss(name, MEASURES)
            raise ValueError(f"{name}{_SUFFIX}: no checkpoint has that name: {hint}")
    if not found:
        raise ValueError(f"{request.folder} holds no raw weights: no <checkpoint>{_SUFFIX}")
    for option, names in (("only", request.only), ("force", request.force)):
        for name in names:
            if name not in found:
                raise ValueError(f"{option} has {name!r}: {near_miss(name, found)}")
    return [name for name in MEASURES if name in (request.only or found)]


def _held_back(names: Sequence[str], files: Mapping[str, Path], staging: Staging) -> dict[str, str]:
    """Returns the checkpoints that need another one that is not imported, with the reason.

    Where the folder has a vae with other latents, all that stands on the vae is needed.
    """
    with_vae = [name for name in names if name in ON_VAE]
    if "vae" + _SUFFIX not in files or not with_vae:
        return {}
    shipped = [name for name in ON_VAE if (staging.shipped / name).is_dir()]
    missing = [name for name in shipped if name not in names]
    if not missing or ("vae" in names and not _has_other_latents(staging)):
        return {}
    reason = f"not taken: the new vae needs a new {' and a new '.join(missing)} too"
    if "vae" in missing:
        reason = "not taken: it stands on the new vae, which is not imported"
    return dict.fromkeys(with_vae, reason)


def _has_other_latents(staging: Staging) -> bool:
    return latents_differ(staging.folder / "vae", staging.shipped / "vae")


def _measure_both(
    staging: Staging, names: Sequence[str], request: ImportRequest, say: Callable[[str], object]
) -> tuple[Rows, Rows]:
    """Measures checkpoints of today and the new ones on the same scenes."""
    for folder in staging.shipped.iterdir():
        if folder.is_dir() and not (staging.folder / folder.name).exists():
            # A measure may read what another checkpoint has made.
            (staging.folder / folder.name).symlink_to(folder.resolve())
    folders = (staging.shipped, staging.folder)
    jobs = [(f, n, request.num_scenes) for n in names for f in folders if (f / n).is_dir()]
    rows: dict[Path, list[Mapping[str, Any]]] = {folder: [] for folder in folders}
    for (folder, name, _), own in zip(jobs, _measured(jobs, request.num_processes), strict=True):
        say(f"measured {name} {'of today' if folder == staging.shipped else 'of the import'}")
        rows[folder] += own
    return rows[staging.shipped], rows[staging.folder]


def _measured(jobs: Sequence[tuple[Path, str, int]], num_processes: int) -> Iterator[Rows]:
    if min(num_processes, len(jobs)) <= 1:
        yield from (measure_alone(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(measure_alone, *zip(*jobs, strict=True))


def _replace(staging: Staging, request: ImportRequest, taken: Sequence[str]) -> None:
    """Replaces checkpoints, none before all are copied, and shares files among all."""
    if request.today != request.checkpoints:
        shutil.copytree(request.shipped, request.checkpoints, symlinks=True, dirs_exist_ok=True)
    with ExitStack() as stack:
        for name in taken:
            temporary = stack.enter_context(replacement(request.checkpoints / name))
            # safetensors writes files that no other user can read: these are new ones.
            shutil.copytree(staging.folder / name, temporary, copy_function=shutil.copyfile)
    share_files(request.checkpoints)


def _sentences(taken: Sequence[str], problems: Mapping[str, str]) -> list[str]:
    by_reason = {f"{name}: {reason}" for name, reason in problems.items()}
    replaced = f"replaced {', '.join(taken)}" if taken else "nothing is replaced"
    return [*sorted(by_reason), replaced]
