"""Description of a cluster: what a platform team knows and a recipe does not, as a TOML file.

name = "overpaint"
image = "registry.example/overpaint:0.2.0"
platform = "gke"
service_account = "overpaint-s3"       # may read the input and write the output
secrets = ["hub-token"]                # their keys become environment variables
[[nodes]]
name = "gpu"
gpus = 1
accelerator = "nvidia-l4"
spot = true
max_nodes = 16
[schedule]
cron = "0 2 * * *"
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from overpaint.cluster.deploy.platforms import PLATFORMS
from overpaint.cluster.ray.scheduling import ACCELERATOR_LABEL, MARKET_LABEL
from overpaint.pipeline.accelerators import accelerator_of, known_accelerator
from overpaint.pipeline.errors import UsageError, first_error, near_miss
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=38)]
"""A name that Kubernetes takes; short, since KubeRay makes names of pods of it."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Head(_Table):
    """The node that runs Ray's control store and the driver, and no actor."""

    cpus: int = Field(default=2, ge=1)
    """CPUs."""
    memory_gib: float = Field(default=8.0, gt=0)
    """Memory, in GiB."""
    node_selector: dict[str, str] = {}
    """Labels of the machines that it may run on; never on spot machines."""
    node_config: dict[str, Any] = {}
    """The provider's own words for the machine, for the launcher, such as `InstanceType`."""


class NodeGroup(_Table):
    """Worker nodes of one shape."""

    name: Name
    """Name of the group."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a node."""
    accelerator: str | None = None
    """Kind of GPU, as the platform's label has it, such as `nvidia-l4`."""
    accelerator_type: str | None = None
    """Kind of GPU by Ray's name, such as `L4`, for groups of a plan that ask for it; null for the
    one that `accelerator` tells."""
    cpus: int | None = Field(default=None, ge=1)
    """CPUs of a node; null for those that the plan's actors reserve."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory of a node, in GiB; null for that which the plan's actors need."""
    min_nodes: int | None = Field(default=None, ge=0)
    """The fewest nodes; null for those that the fewest actors of the plan need."""
    max_nodes: int | None = Field(default=None, ge=0)
    """The most nodes; null for those that the most actors of the plan need."""
    spot: bool = False
    """Whether the provider may take its machines back."""
    priority: int | None = None
    """Groups of a higher priority grow first; null leaves it to the autoscaler."""
    idle_timeout_s: int = Field(default=120, ge=1)
    """Seconds after which a node without work is given back."""
    node_selector: dict[str, str] = {}
    """More labels that a machine must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """More taints of machines that are no obstacle, as Kubernetes writes them."""
    node_config: dict[str, Any] = {}
    """The provider's own words for the machine, for the launcher, such as `InstanceType`."""

    @field_validator("accelerator_type")
    @classmethod
    def _accelerator_is_known(cls, name: str | None) -> str | None:
        return known_accelerator(name)

    @model_validator(mode="after")
    def _hangs_together(self) -> "NodeGroup":
        if self.accelerator and not self.gpus:
            raise ValueError(f"accelerator = {self.accelerator!r} and gpus = 0: give gpus")
        if self.accelerator_type and not self.gpus:
            raise ValueError(f"accelerator_type = {self.accelerator_type!r}: give gpus")
        bounds = (self.min_nodes or 0, self.max_nodes)
        if bounds[1] is not None and bounds[0] > bounds[1]:
            raise ValueError(f"min_nodes = {bounds[0]} is above max_nodes = {bounds[1]}")
        return self

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its nodes, by which Ray finds a place for the groups of a plan."""
        kind = self.accelerator_type or (self.accelerator and accelerator_of(self.accelerator))
        market = {MARKET_LABEL: "spot" if self.spot else "on-demand"}
        return market | ({ACCELERATOR_LABEL: kind} if kind else {})


class Models(_Table):
    """A volume with weights, which all nodes read."""

    claim: Name
    """PersistentVolumeClaim of the volume."""
    path: str = Field(default="/models", pattern="^/")
    """Folder at which it is mounted; the hub's cache is in it."""
    read_only: bool = True
    """Whether nodes only read it; else the first to need weights fetches them."""


class Security(_Table):
    """Rights of the containers."""

    run_as_user: int = Field(default=1000, ge=1)
    """User that everything runs as."""
    group: int = Field(default=1000, ge=1)
    """Group of the user, and of the volumes' files."""
    read_only_root: bool = False
    """Whether the image's own files are read-only; `/tmp` is always writable."""


class Schedule(_Table):
    """Times of a job that comes back."""

    cron: str
    """Five fields: minute, hour, day, month, weekday."""
    time_zone: str | None = None
    """Zone of the times, such as `Europe/Berlin`; null for the operator's."""

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, cron: str) -> str:
        if not cron.startswith("@") and len(cron.split()) != 5:
            raise ValueError("write minute, hour, day, month and weekday, such as '0 2 * * *'")
        return cron


class Job(_Table):
    """End of a job, and the times that it is tried again."""

    retries: int = Field(default=3, ge=0)
    """New clusters for a run that stopped early: each goes on where the one before stopped."""
    keep_s: int = Field(default=3600, ge=0)
    """Seconds for which a finished job can be looked at."""
    deadline_s: int | None = Field(default=None, ge=1)
    """Seconds after which a job is ended; null for no limit."""


class Launcher(_Table):
    """Needs of the cluster launcher of Ray beside the nodes."""

    provider: dict[str, Any]
    """The provider, with `type`, such as `{ type = "aws", region = "eu-central-1" }`."""
    ssh_user: str = "ubuntu"
    """User of the machines."""
    ssh_private_key: str | None = None
    """File with the key of that user; null lets Ray make one."""
    docker: bool = True
    """Whether machines run the image; else `setup_commands` install Overpaint on them."""
    setup_commands: tuple[str, ...] = ()
    """Commands that set a machine up."""

    @field_validator("provider")
    @classmethod
    def _has_a_type(cls, provider: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(provider.get("type"), str):
            raise ValueError("give the provider's type, such as { type = 'aws', region = '...' }")
        return provider


class ClusterDescription(_Table):
    """Contents of the file."""

    name: Name = "overpaint"
    """Name of the cluster and of its jobs."""
    image: str
    """Container image with Overpaint and the versions that the runs are made with."""
    namespace: Name | None = None
    """Namespace of Kubernetes; null for that of the context."""
    platform: str = "plain"
    """Provider of Kubernetes, whose labels tell kinds of GPUs and spot machines."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with which the image is pulled."""
    service_account: str | None = None
    """Service account of all pods: its role may read the input and write the output."""
    secrets: tuple[str, ...] = ()
    """Secrets whose keys become environment variables, such as a token of the hub."""
    env: dict[str, str] = {}
    """Environment variables that are no secrets."""
    auth_secret: str | None = None
    """Secret with the cluster's token under `auth_token`; null lets the operator make one."""
    tmp_gib: float | None = Field(default=None, gt=0)
    """Size of `/tmp`, where Ray spills and keeps its logs, in GiB; null sets no limit."""
    head: Head = Head()
    """The head node."""
    nodes: tuple[NodeGroup, ...]
    """Groups of worker nodes."""
    models: Models | None = None
    """Volume with weights; null where the image has them."""
    security: Security = Security()
    """Rights of the containers."""
    schedule: Schedule | None = None
    """Times of a RayCronJob."""
    job: Job = Job()
    """End of jobs."""
    launcher: Launcher | None = None
    """What Ray's cluster launcher needs."""

    @field_validator("platform")
    @classmethod
    def _is_known(cls, platform: str) -> str:
        if platform not in PLATFORMS:
            raise ValueError(f"no such platform: {near_miss(platform, PLATFORMS)}")
        return platform

    @model_validator(mode="after")
    def _names_are_unique(self) -> "ClusterDescription":
        names = [nodes.name for nodes in self.nodes]
        if not names:
            raise ValueError("a cluster needs nodes: write [[nodes]]")
        for name in names:
            if names.count(name) > 1 or name == "head":
                raise ValueError(f"nodes: the name {name!r} is taken")
        return self


def read_description(file: Path) -> ClusterDescription:
    """Reads the description of a cluster.

    Raises:
        UsageError: the file is missing or wrong; names the field, and the near miss.
    """
    try:
        return ClusterDescription.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{file}: no such file; it describes the cluster") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not TOML: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{file}: {first_error(error, _known(error))}") from error


def _known(error: ValidationError) -> list[str]:
    """Returns the names of the fields of the table in which an error is."""
    table: Any = ClusterDescription
    for part in error.errors(include_url=False)[0]["loc"][:-1]:
        if isinstance(part, str):
            table = _TABLES.get(part, table)
    return list(table.model_fields)


_TABLES = {
    "head": Head,
    "nodes": NodeGroup,
    "models": Models,
    "security": Security,
    "schedule": Schedule,
    "job": Job,
    "launcher": Launcher,
}
