"""Options that several commands share, declared once.

A command takes one of these values; cyclopts makes an option of the command line of each field, and
its help of the field's text here. `to_arguments` makes the command line again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter, Token, validators
from overpaint.cluster.ray.session import Session
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.storage.checks import check_folder, check_writable
from overpaint.pipeline.storage.uris import normalise


def _absolute(kind: Any, tokens: Sequence[Token]) -> str:
    """Makes a local path absolute, so that it holds in another folder and on a cluster."""
    del kind
    uri = tokens[0].value
    if not uri:
        raise ValueError("an empty text stands where a path or URL should be")
    return normalise(uri)


def _check_file(kind: Any, path: Path | None) -> None:
    """Checks before anything is done that a file can be written where the user wants it."""
    del kind
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{path}: a folder is there, where a file is to be written")
    _check_folder(None, path.parent)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")


def _check_folder(kind: Any, path: Path | None) -> None:
    """Checks before anything is done that a folder can be made and written to."""
    del kind
    if path is not None:
        check_folder(str(path))
        check_writable(str(path))


Uri = Annotated[str, Parameter(converter=_absolute)]
"""A local path, absolute once it is parsed, or any fsspec URL."""
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
"""A number of things, at least one."""
NewFile = Annotated[Path, Parameter(validator=_check_file)]
"""A local file that is to be written, over one that is there, in a folder that is there."""
NewFolder = Annotated[Path, Parameter(validator=_check_folder)]
"""A local folder to write into, made where there is none."""
Flag = Annotated[bool, Parameter(negative="")]
"""An option without a value and without a `--no-` form."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """Options that choose the rows of a run, and change its recipe.

    Attributes:
        input: A folder or prefix of images or of the parts of a table, a table with source_uri or
            with pictures, tars of pictures, a saved dataset, or another run's folder.
        limit: Take only that many rows from the front of the input.
        settings: stage.field=value changes a field of a stage, row.column=value gives every row a
            column, output.images=shards packs pictures; may be given several times.
        mapping: NAME=NEW renames a column of the input table; may be given several times.
        base: Folder or prefix that relative sources are relative to; where none is given, the
            table's folder, or images in it where more of them lie.
        keep: A column of bytes that is carried along; without it such columns are left out. May be
            given several times.
    """

    input: Uri
    limit: int | None = None
    settings: Annotated[list[str], Parameter(name="--set", negative="", show_default=False)] = (
        field(default_factory=list[str])
    )
    mapping: Annotated[list[str], Parameter(name="--map", negative="", show_default=False)] = field(
        default_factory=list[str]
    )
    base: Uri | None = None
    keep: Annotated[list[str], Parameter(negative="", show_default=False)] = field(
        default_factory=list[str]
    )

    @property
    def renamed(self) -> dict[str, str]:
        """The new names of columns, by their names in the table.

        Raises:
            UsageError: an entry of `mapping` is not NAME=NEW.
        """
        pairs = [entry.split("=", 1) for entry in self.mapping]
        for entry, pair in zip(self.mapping, pairs, strict=True):
            if len(pair) != 2 or not all(pair):
                raise UsageError(f"--map {entry!r}: write NAME=NEW, such as file_name=source_uri")
        return {pair[0]: pair[1] for pair in pairs}

    def input_request(self) -> InputRequest:
        """Returns the input as a run records it."""
        return InputRequest(self.input, self.limit, self.renamed, self.base, tuple(self.keep))

    def to_arguments(self) -> list[str]:
        """Returns the options as arguments of a command line that gives them again.

        Example:
            >>> InputOptions(input="/data", limit=8, mapping=["file=source_uri"]).to_arguments()
            ['--input=/data', '--limit=8', '--map=file=source_uri']
        """
        hints = get_type_hints(type(self), include_extras=True)
        return [
            argument
            for option in fields(self)
            for argument in _arguments(_name(option.name, hints), getattr(self, option.name))
        ]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(InputOptions):
    """Options of a run, here or on a cluster.

    Attributes:
        output: The run folder: a local path or any fsspec URL, such as s3://bucket/run; on a
            cluster a path that its machines share.
        update: Where the output holds a run of another recipe, input or version, plan it anew:
            edits and scores that still hold are kept, the others are made, and edits that are no
            longer asked for are removed at the end. Without it such an output is refused.
        if_idle: Where another runner is at work on the run, say so and end at once, with 0: for
            schedules whose ticks may overlap.
        budget_gpu_hours: End after that many hours of reserved GPUs in this session; the same
            command goes on.
        insecure_cluster: Use a cluster that asks for no token, where nobody else can reach it.
    """

    output: Uri
    update: Flag = False
    if_idle: Flag = False
    budget_gpu_hours: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None
    insecure_cluster: Flag = False


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Options that say where rows run.

    Attributes:
        address: Address of a Ray cluster; a local one is started where none is given.
        num_cpus: Logical CPUs of a local Ray; all of the machine where none are given.
        ray: --no-ray runs every stage in this process.
    """

    address: str | None = None
    num_cpus: int | None = None
    ray: bool = True

    def session(self, *, allow_open: bool) -> Session | None:
        """Returns the Ray to connect to; None for this process.

        Args:
            allow_open: whether a cluster that asks for no token is joined.
        """
        if not self.ray:
            return None
        return Session(address=self.address, num_cpus=self.num_cpus, allow_open=allow_open)


LOCAL_RAY = RayOptions()
"""Local Ray with all of the machine, or the cluster in `RAY_ADDRESS`."""


def _name(field_name: str, hints: dict[str, Any]) -> str:
    """Returns the name of an option: the one that is declared, or the field's."""
    for declared in getattr(hints[field_name], "__metadata__", ()):
        if isinstance(declared, Parameter) and declared.name:
            (name, *_) = declared.name
            return name
    return f"--{field_name.replace('_', '-')}"


def _arguments(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [name]
    values = value if isinstance(value, list) else [value]
    return [f"{name}={item}" for item in values]
