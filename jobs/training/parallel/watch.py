"""Watching a training that runs in another process, and copying what it has reached.

The copies are archives of at most a given size, for a place that takes few and small files.
"""

import io
import json
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overpaint.jobs.training.parallel.launcher import ENDED_FILE, FACTS_FILE, write_facts

_POLL_S = 1.0
_COPY_S = 60.0
_LAST_LINES = 40
_LOG_ARCHIVE = "log.tar.gz"


def watch(
    out: Path,
    *,
    seconds: float | None = None,
    copy_to: Path | None = None,
    archive_mb: float | None = None,
) -> int:
    """Prints the log of a training until it ends, and copies weights and facts.

    Args:
        out: folder of the training.
        seconds: end of the watch, though the training goes on; None to watch to its end.
        copy_to: folder of the copies, made anew every minute and at the end; None for none.
        archive_mb: largest archive in MB; None copies single files.

    Returns:
        The exit code: 0, or 1 where the training has failed.
    """
    until = None if seconds is None else time.monotonic() + seconds
    log, copied = _Tail(out), time.monotonic()
    while not (out / ENDED_FILE).is_file() and (until is None or time.monotonic() < until):
        log.show()
        if copy_to is not None and time.monotonic() - copied > _COPY_S:
            copy_results(out, copy_to, archive_mb)
            copied = time.monotonic()
        time.sleep(_POLL_S)
    log.show()
    if copy_to is not None:
        copy_results(out, copy_to, archive_mb)
    ended = out / ENDED_FILE
    failed = json.loads(ended.read_text())["failed"] if ended.is_file() else []
    if failed:
        _show_ends(out, failed)
    return 1 if failed else 0


def copy_results(out: Path, copy_to: Path, archive_mb: float | None) -> None:
    """Copies weights, facts and logs; each copy replaces the one before it as a whole."""
    write_facts(out)
    copy_to.mkdir(parents=True, exist_ok=True)
    weights = sorted(out.glob("*.safetensors"), key=lambda p: (p.stat().st_size, p.name))
    groups = [[path] for path in weights] if archive_mb is None else _groups(weights, archive_mb)
    for number, group in enumerate(groups):
        name = group[0].name if archive_mb is None else f"weights-{number}.tar"
        _replace(copy_to / name, group if archive_mb else group[0].read_bytes())
    _replace(copy_to / FACTS_FILE, (out / FACTS_FILE).read_bytes())
    logs = [p for p in sorted(out.iterdir()) if p.suffix in (".jsonl", ".log", ".json")]
    _replace(copy_to / _LOG_ARCHIVE, logs)


def _groups(paths: Sequence[Path], most_mb: float) -> list[list[Path]]:
    """Groups files, each into the first group that it fits in, the largest first."""
    groups: list[list[Path]] = []
    for path in reversed(paths):
        for group in groups:
            if sum(p.stat().st_size for p in (*group, path)) <= most_mb * 1e6:
                group.append(path)
                break
        else:
            groups.append([path])
    return groups


def _replace(path: Path, content: bytes | Sequence[Path]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    if isinstance(content, bytes):
        temporary.write_bytes(content)
    else:
        with tarfile.open(temporary, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for member in content:
                _add(archive, member)
    temporary.replace(path)


def _add(archive: tarfile.TarFile, path: Path) -> None:
    # Read whole: a log may grow while it is copied.
    content = path.read_bytes()
    member = tarfile.TarInfo(path.name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _show_ends(out: Path, names: Sequence[str]) -> None:
    for name in (*names, "drawing"):
        path = out / f"{name}.log"
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            print(f"--- end of {path.name}", *lines, sep="\n", flush=True)


@dataclass(slots=True)
class _Tail:
    """Lines of all `.jsonl` logs that have not been shown yet."""

    out: Path
    offsets: dict[Path, int] = field(default_factory=dict)

    def show(self) -> None:
        for line in self._new_lines():
            print(line, flush=True)

    def _new_lines(self) -> Iterator[str]:
        for path in sorted(self.out.glob("*.jsonl")):
            with path.open(encoding="utf-8") as file:
                file.seek(self.offsets.get(path, 0))
                for line in file.read().splitlines():
                    values = json.loads(line)
                    yield " ".join(f"{name} {_shown(value)}" for name, value in values.items())
                self.offsets[path] = file.tell()


def _shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
