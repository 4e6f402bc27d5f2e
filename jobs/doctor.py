"""Checks of a machine: what it has, what it lacks, and the command that repairs it."""

import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from overpaint.cluster.ray.local import overlong_variable, sessions_folder
from overpaint.operators.models.weights import PAPERCUT, Checkpoint
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise

_PACKAGES = ("ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "s3fs")
_OPTIONAL = {
    "torchvision": "only some judges (Qwen-VL) need it: pip install overpaint[torchvision]",
    "torchao": "only quantised weights need it: pip install overpaint[quantization]",
    "bitsandbytes": "only quantised weights need it: pip install overpaint[quantization]",
}
_PAPERCUT = ("text_to_image", "instruction", "clip", "clipseg", "sam", "caption", "judge")
_LEAST_FREE_GIB = 5.0
_LEAST_MEMORY_GIB = 6.0


@dataclass(frozen=True, slots=True)
class Check:
    """State of one thing that a run may need.

    Attributes:
        subject: thing that was looked at.
        state: version, amount, or reason why it is not fine.
        is_fine: whether a run can do with it.
        advice: what to do where it is not fine.
        is_optional: whether most runs do without it.
    """

    subject: str
    state: str
    is_fine: bool = True
    advice: str = ""
    is_optional: bool = False


def examine(output: str | None = None) -> list[Check]:
    """Checks everything that a run may need.

    Args:
        output: folder or URL where a run would write, tried with one small object; None for none.
    """
    checks = [_python(), *map(_package, _PACKAGES), _gpus(), *map(_optional, _OPTIONAL)]
    checks += [_memory(), _disk()]
    checks.append(_sessions())
    checks.extend(_papercut(part) for part in _PAPERCUT)
    if output is not None:
        checks.extend(_storage(output))
    return checks


def next_steps() -> list[str]:
    """Lists what to do after the demo, line by line."""
    return [
        "",
        "The papercut checkpoints know a drawn world and nothing of photographs. For photographs:",
        "  overpaint recipes                  the shipped recipes for checkpoints of the hub",
        "  overpaint plan flux2-klein --input FOLDER --set row.instruction='make it snow'",
        "                                     what a run would do; needs no GPU",
        "  overpaint run flux2-klein --input FOLDER --set row.instruction='make it snow' \\",
        "      --output s3://BUCKET/RUN",
    ]


def _python() -> Check:
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", platform.python_version(), fine, "use Python 3.11, 3.12 or 3.13")


def _package(name: str) -> Check:
    try:
        return Check(name, version(name))
    except PackageNotFoundError:
        return Check(name, "not installed", False, f"pip install {name}")


def _gpus() -> Check:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    advice = "papercut runs on the CPU; hub checkpoints want a GPU, here or by overpaint submit"
    return Check("GPUs", names or "none", count > 0, advice if not count else "", is_optional=True)


def _optional(name: str) -> Check:
    package = _package(name)
    return Check(name, package.state, package.is_fine, _OPTIONAL[name], is_optional=True)


def _memory() -> Check:
    lines = dict(line.split(":", 1) for line in _meminfo())
    if "MemAvailable" not in lines:
        return Check("memory", "unknown", is_optional=True)
    gib = int(lines["MemAvailable"].split()[0]) / 2**20
    return Check("memory", f"{gib:.1f} GiB free", gib >= _LEAST_MEMORY_GIB, "the demo needs 6 GiB")


def _meminfo() -> Iterator[str]:
    path = Path("/proc/meminfo")
    yield from path.read_text().splitlines() if path.is_file() else []


def _disk() -> Check:
    gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return Check("disk", f"{gib:.0f} GiB free here", gib >= _LEAST_FREE_GIB, "free 5 GiB")


def _sessions() -> Check:
    """Looks for a folder whose path leaves room for the sockets of a local Ray."""
    try:
        folder, name = sessions_folder(), overlong_variable()
        reason = f", since the path in {name} is too long for sockets" if name else ""
        return Check("Ray's folder", f"{folder}{reason}")
    except UsageError as error:
        return Check("Ray's folder", "none", False, str(error))


def _papercut(part: str) -> Check:
    try:
        Checkpoint(name=PAPERCUT, part=part).check()
    except ValueError as error:
        return Check(f"papercut {part}", "missing", False, str(error))
    return Check(f"papercut {part}", "there")


def _storage(output: str) -> Iterator[Check]:
    """Writes, reads and removes one object where a run would write."""
    storage = Storage(normalise(output))
    path = f".overpaint-doctor-{uuid.uuid4().hex}"
    try:
        storage.write(path, b"overpaint")
        read = storage.read(path)
        storage.remove([path])
    except Exception as error:  # noqa: BLE001  whatever a store says is what the user should see
        advice = "check the URL, the credentials and AWS_ENDPOINT_URL"
        yield Check(output, f"{type(error).__name__}: {error}", False, advice)
        return
    yield Check(output, "write, read and remove work", read == b"overpaint")
