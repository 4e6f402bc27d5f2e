"""Raw weights of a run on another machine: fp16 tensors by name, and the facts of the run.

A folder holds `<checkpoint>.safetensors`, with tensors `<module>.<parameter>`, and `facts.json`, as
they are or in tar archives.
"""

import filecmp
import tarfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from overpaint.jobs.training.history import TrainingRecord
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

FACTS_FILE = "facts.json"


class CheckpointFacts(BaseModel):
    """Training of one checkpoint in a run."""

    steps: int = Field(ge=0)
    minutes: FiniteFloat
    batch_size: int
    learning_rate: FiniteFloat
    examples: int
    note: str = ""


class Facts(BaseModel):
    """Facts of a run.

    Attributes:
        scaling_factor: scaling factor of the vae's latents; None where no vae was trained.
        device: hardware, such as `NVIDIA H100`.
        checkpoints: training of each checkpoint, by name.
    """

    scaling_factor: FiniteFloat | None = Field(default=None, gt=0)
    device: str
    checkpoints: dict[str, CheckpointFacts]

    def record(self, name: str) -> TrainingRecord:
        """Returns the record of a checkpoint's training.

        Raises:
            ValueError: the facts do not name the checkpoint.
        """
        if name not in self.checkpoints:
            raise ValueError(f"{FACTS_FILE} says nothing of {name!r}")
        return TrainingRecord(device=self.device, **self.checkpoints[name].model_dump())


@contextmanager
def raw_files(folder: Path) -> Generator[dict[str, Path]]:
    """Yields the files of a folder and of its tar archives, by name.

    Raises:
        ValueError: the folder is missing, an archive cannot be read or holds anything but files
            without a path, or two files of one name differ.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    with TemporaryDirectory() as temporary:
        for archive in sorted(folder.glob("*.tar")):
            for path in _unpack(archive, Path(temporary) / archive.stem):
                known = files.setdefault(path.name, path)
                if not filecmp.cmp(known, path, shallow=False):
                    raise ValueError(f"{archive}: another {path.name} is in the folder, too")
        yield files


def _unpack(archive: Path, folder: Path) -> list[Path]:
    try:
        with tarfile.open(archive) as members:
            for member in members:
                if not member.isfile() or Path(member.name).name != member.name:
                    raise ValueError(f"{archive}: {member.name!r} is not a file without a path")
                members.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} cannot be read: {error}") from error
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_facts(files: Mapping[str, Path]) -> Facts:
    """Reads the facts of a run.

    Raises:
        ValueError: they are missing or wrong; one sentence.
    """
    if FACTS_FILE not in files:
        raise ValueError(f"there is no {FACTS_FILE}")
    try:
        return Facts.model_validate_json(files[FACTS_FILE].read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{FACTS_FILE}: {place or 'content'}: {first['msg']}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a file.

    Raises:
        ValueError: the file is no whole safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the tensors in a file, by name.

    Raises:
        ValueError: the file is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="np") as tensors:
            return {n: tuple(tensors.get_slice(n).get_shape()) for n in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


@torch.no_grad()
def load_raw(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Loads the parameters of modules; buffers stay as they are.

    Args:
        path: file with exactly the parameters of the modules.
        modules: modules by the first part of their parameters' names, which are changed.

    Raises:
        ValueError: the file is not whole, or a tensor is missing, unknown, of another shape, not of
            a float type or not finite; names file and tensor.
    """
    tensors = read_tensors(path)
    parameters = dict(nn.ModuleDict(dict(modules)).named_parameters())
    for names, problem in (
        (parameters.keys() - tensors.keys(), "is missing"),
        (tensors.keys() - parameters.keys(), "is no parameter of it"),
    ):
        if names:
            more = f", and so are {len(names) - 1} others" if len(names) > 1 else ""
            raise ValueError(f"{path.name}: {min(names)} {problem}{more}")
    for name, parameter in parameters.items():
        parameter.copy_(_checked(tensors[name], parameter, f"{path.name}: {name}"))


def _checked(tensor: Tensor, parameter: Tensor, name: str) -> Tensor:
    if tensor.shape != parameter.shape:
        shape, right = list(tensor.shape), list(parameter.shape)
        raise ValueError(f"{name} has the shape {shape}; it must be {right}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is of {tensor.dtype}; it must be of float16")
    half = tensor.half()
    if not half.isfinite().all():
        raise ValueError(f"{name} is not finite in float16")
    return half
