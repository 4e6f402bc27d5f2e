"""What a machine has, what it lacks, and the command that mends it."""

import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from overpaint.operators.models import weights as checkpoints
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise

_PACKAGES = ("ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "s3fs")
_PAPERCUT = ("text_to_image", "instruction", "clip", "clipseg", "sam", "caption", "judge")
_LEAST_FREE_GIB = 5.0
_LEAST_MEMORY_GIB = 6.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what, what was found, and what to do where it is not fine."""

    what: str
    found: str
    is_fine: bool = True
    mend: str = ""
    is_optional: bool = False


def examine(output: str | None = None) -> list[Finding]:
    """Looks at everything; `output` is where a run would write, tried with one small object."""
    findings = [_python(), *map(_package, _PACKAGES), _gpus(), _torchvision(), _memory(), _disk()]
    findings.extend(_papercut(part) for part in _PAPERCUT)
    if output is not None:
        findings.extend(_storage(output))
    return findings


def next_steps() -> list[str]:
    """What to do after the demo."""
    return [
        "",
        "The papercut checkpoints know a drawn world and nothing of photographs. For photographs:",
        "  overpaint recipes                  the shipped recipes for checkpoints of the hub",
        "  overpaint plan instruct-pix2pix --input FOLDER --set row.instruction='make it snow'",
        "                                     what a run would do; needs no GPU",
        "  overpaint run instruct-pix2pix --input FOLDER --set row.instruction='make it snow' \\",
        "      --output s3://BUCKET/RUN",
    ]


def _python() -> Finding:
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", platform.python_version(), fine, "use Python 3.11, 3.12 or 3.13")


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", False, f"pip install {name}")


def _gpus() -> Finding:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    mend = "papercut runs on the CPU; hub checkpoints want a GPU, here or by overpaint submit"
    return Finding("GPUs", names or "none", count > 0, mend if not count else "", is_optional=True)


def _torchvision() -> Finding:
    found = _package("torchvision")
    mend = "only some judges (Qwen-VL) need it: pip install overpaint[torchvision]"
    return Finding("torchvision", found.found, found.is_fine, mend, is_optional=True)


def _memory() -> Finding:
    lines = dict(line.split(":", 1) for line in _meminfo())
    if "MemAvailable" not in lines:
        return Finding("memory", "unknown", is_optional=True)
    gib = int(lines["MemAvailable"].split()[0]) / 2**20
    return Finding(
        "memory", f"{gib:.1f} GiB free", gib >= _LEAST_MEMORY_GIB, "the demo needs 6 GiB"
    )


def _meminfo() -> Iterator[str]:
    path = Path("/proc/meminfo")
    yield from path.read_text().splitlines() if path.is_file() else []


def _disk() -> Finding:
    gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", f"{gib:.0f} GiB free here", gib >= _LEAST_FREE_GIB, "free 5 GiB")


def _papercut(part: str) -> Finding:
    try:
        checkpoints.check("checkpoint", checkpoints.PAPERCUT, part)
    except ValueError as error:
        return Finding(f"papercut {part}", "missing", False, str(error))
    return Finding(f"papercut {part}", "there")


def _storage(output: str) -> Iterator[Finding]:
    """Writes, reads and removes one object where a run would write."""
    storage = Storage(normalise(output))
    path = f".overpaint-doctor-{uuid.uuid4().hex}"
    try:
        storage.write(path, b"overpaint")
        read = storage.read(path)
        storage.remove([path])
    except Exception as error:  # noqa: BLE001  whatever a store says is what the user should see
        mend = "check the URL, the credentials and AWS_ENDPOINT_URL"
        yield Finding(output, f"{type(error).__name__}: {error}", False, mend)
        return
    yield Finding(output, "write, read and remove work", read == b"overpaint")
