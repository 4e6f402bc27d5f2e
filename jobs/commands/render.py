"""render: clusters and jobs on paper, for Kubernetes and for Ray's launcher."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.cluster.deploy import kuberay
from overpaint.cluster.deploy.description import ClusterDescription, read_description
from overpaint.cluster.deploy.launcher import launcher_file
from overpaint.jobs.options import RunOptions
from overpaint.jobs.recipes import load_plan, read_recipe
from overpaint.jobs.runs.gpu_shares import with_gpu_shares
from overpaint.jobs.runs.prepare import named_errors
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.storage.filesystems import check_known

render = App(name="render", help="Writes files that start clusters and jobs, to standard output.")
Settings = Annotated[list[str] | None, Parameter(name="--set", negative="", show_default=False)]


def register(app: App) -> None:
    """Adds the commands to the app."""
    app.command(render)


@render.command
def rayjob(recipe: str, *, cluster: Path, options: RunOptions) -> int:
    """Writes a RayJob of KubeRay that runs a recipe on a cluster of its own.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        cluster: A TOML file that describes the cluster.
        options: Options of the run.
    """
    described, plan, text = _read(recipe, cluster, options)
    with named_errors(str(cluster)):
        objects = kuberay.ray_job(described, plan, text, options.to_arguments())
    return _write(objects)


@render.command
def raycronjob(recipe: str, *, cluster: Path, options: RunOptions) -> int:
    """Writes a RayCronJob of KubeRay: each tick edits what is new or changed since the last.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        cluster: A TOML file that describes the cluster, with a schedule.
        options: Options of the run; --update and --if-idle are added.
    """
    described, plan, text = _read(recipe, cluster, options)
    with named_errors(str(cluster)):
        objects = kuberay.ray_cron_job(described, plan, text, options.to_arguments())
    return _write(objects)


@render.command
def raycluster(recipe: str, *, cluster: Path, set_: Settings = None) -> int:
    """Writes a RayCluster of KubeRay that holds a recipe's actors, for jobs submitted to it.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        cluster: A TOML file that describes the cluster.
        set_: stage.field=value changes a field of a stage; may be given several times.
    """
    described, plan = read_description(cluster), _placed(recipe, set_ or ())
    with named_errors(str(cluster)):
        return _write(kuberay.ray_cluster(described, plan))


@render.command
def launcher(recipe: str, *, cluster: Path, set_: Settings = None) -> int:
    """Writes a file for `ray up`, which starts a cluster on a cloud's machines.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        cluster: A TOML file that describes the cluster, with a launcher.
        set_: stage.field=value changes a field of a stage; may be given several times.
    """
    described, plan = read_description(cluster), _placed(recipe, set_ or ())
    with named_errors(str(cluster)):
        return _write([launcher_file(described, plan)])


@render.command
def example() -> int:
    """Writes an example of the file that describes a cluster."""
    return _write_file("example.toml")


@render.command
def dockerfile() -> int:
    """Writes a Dockerfile for the image of a cluster, to build in a clone of Overpaint."""
    return _write_file("Dockerfile")


@render.command
def grafana() -> int:
    """Writes a dashboard for Grafana of the metrics that runs export through Ray."""
    return _write_file("grafana.json")


def _read(recipe: str, cluster: Path, options: RunOptions) -> tuple[ClusterDescription, Plan, str]:
    """Reads the description and the recipe, and checks what is wrong wherever a run is."""
    described = read_description(cluster)
    plan = _placed(recipe, options.settings)
    check_known(options.input)
    check_known(options.output)
    return described, plan, read_recipe(recipe)[0]


def _placed(recipe: str, settings: Sequence[str]) -> Plan:
    """Reads a recipe, with shares of GPUs by the memory of the weights that are here."""
    plan, _ = with_gpu_shares(load_plan(recipe, settings))
    return plan


def _write_file(name: str) -> int:
    sys.stdout.write((files("overpaint.cluster.deploy") / name).read_text())
    return 0


def _write(objects: Sequence[dict[str, Any]]) -> int:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writer of YAML whose texts of several lines stand as they are."""

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    yaml.dump_all(objects, sys.stdout, Dumper, sort_keys=False, width=100, allow_unicode=True)
    return 0
