"""Opening a run: planned into its folder, found there as it was planned, or refused.

A run goes on with the recipe, the input and the versions that it began with; another form of it is
planned only where the user asks for that.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from overpaint.cluster.group import Run
from overpaint.jobs import update as updating
from overpaint.jobs.update import is_under_way, take_over
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.inputs import Input, input_version, read_input
from overpaint.pipeline.lease import held
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.planning import write_plan
from overpaint.pipeline.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.run_folder import PLANNED, RECIPE, SUCCESS, RunFolder
from overpaint.pipeline.storage import Storage, normalise

_PACKAGES = ("overpaint", "ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "numpy")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows a user asked for."""

    input_uri: str
    limit: int | None = None
    mapping: dict[str, str] = field(default_factory=dict[str, str])
    base_uri: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record of a run, and its identity."""
        return {
            "input": normalise(self.input_uri),
            "limit": self.limit,
            "mapping": self.mapping,
            "base": normalise(self.base_uri) if self.base_uri else None,
        }

    def version(self) -> str | None:
        """Changes with the content of the input's table; None for a folder of images."""
        return input_version(normalise(self.input_uri))

    def read(self) -> Input:
        """Reads the rows."""
        return read_input(
            self.input_uri, limit=self.limit, mapping=self.mapping, base_uri=self.base_uri
        )


def open_run(
    plan: Plan, asked: Asked, output: str, read: Callable[[], Input], *, update: bool = False
) -> Run:
    """Plans a run into its folder, or finds it planned.

    Args:
        plan: checked.
        asked: which input, for the record.
        output: the run folder.
        read: reads the input and checks that it fits the plan; called only where the run is not
            planned yet, or is planned anew.
        update: whether a run of another recipe, input or version is planned anew, keeping what
            still holds; else it is refused.

    Raises:
        UsageError: the folder holds another run, or files that are no run's; or another runner is
            at work on it.
    """
    folder = RunFolder(Storage(normalise(output)))
    _check_access(folder)
    if is_under_way(folder):
        with held(folder):
            take_over(folder)
    found = folder.read_json(RECIPE)
    if found is not None and update and _is_planned(folder):
        given = read()
        with held(folder):
            updating.update(folder, plan, given, _record(plan, given, asked), found)
        return Run(plan, folder.storage.uri, given.base_uri)
    if found is not None:
        _refuse_changes(folder, found, plan, asked)
    if found is not None and _is_planned(folder):
        return Run(plan, folder.storage.uri, found["base_uri"])
    given = read()
    _refuse_strangers(folder, found)
    folder.write_json(RECIPE, _record(plan, given, asked))
    counts = write_plan(plan, given, folder)
    folder.write_json(PLANNED, {"planned": counts.num_rows, "duplicates": counts.num_duplicates})
    return Run(plan, folder.storage.uri, given.base_uri)


def _check_access(folder: RunFolder) -> None:
    """Wrong credentials are said in seconds, before anything is read, planned or loaded."""
    try:
        folder.read_json(RECIPE)
    except PermissionError as error:
        raise UsageError(
            f"{folder.storage.uri}: the output may not be read ({error}): check the credentials"
        ) from error


def _is_planned(folder: RunFolder) -> bool:
    return folder.read_json(PLANNED) is not None or folder.read_json(SUCCESS) is not None


def existing_run(folder: RunFolder) -> Run:
    """The run that a folder holds.

    Raises:
        UsageError: it holds none.
    """
    recipe = folder.read_json(RECIPE)
    if recipe is None:
        raise UsageError(f"{folder.storage.uri}: no run there (no {RECIPE})")
    plan = plan_from_tables(recipe["recipe"], folder.storage.at(RECIPE))
    return Run(plan, folder.storage.uri, recipe["base_uri"])


def run_identity(plan: Plan, asked: Asked) -> str:
    """Of everything that decides what a run's folder will hold."""
    return digest(
        {
            "stages": list(plan.fingerprints().items()),
            "row": plan.row,
            "policy": plan.policy.model_dump(mode="json"),
            "image_format": plan.image_format,
            **asked.as_json(),
        }
    )


def _refuse_strangers(folder: RunFolder, found: Any) -> None:
    """A folder with files that no run wrote is not taken over."""
    if found is None and (paths := folder.storage.list()):
        raise UsageError(
            f"{folder.storage.uri}: the output folder holds {len(paths)} files that are not a "
            f"run's, such as {paths[0]}; choose an empty one"
        )


def _refuse_changes(folder: RunFolder, found: dict[str, Any], plan: Plan, asked: Asked) -> None:
    """A run goes on with the recipe, the input and the versions that it began with."""
    if found.get("identity") != run_identity(plan, asked):
        changed = _changes(found, plan, asked)
    elif found.get("input_version") != asked.version():
        changed = ["the input's content"]
    elif folder.read_json(SUCCESS) is None:
        now, then = versions(), found.get("versions", {})
        changed = [f"{k} {then.get(k)} then, {now[k]} now" for k in now if now[k] != then.get(k)]
    else:
        return
    if changed:
        raise UsageError(
            f"{folder.storage.uri}: the output holds another run (different: "
            f"{', '.join(changed)}); choose another --output, or plan it anew with --update, which "
            "keeps every edit and score that still holds"
        )


def _changes(found: dict[str, Any], plan: Plan, asked: Asked) -> list[str]:
    recipe = recipe_of(plan)
    theirs: dict[str, Any] = found.get("recipe", {})
    changed = [key for key in recipe if recipe[key] != theirs.get(key)]
    changed += [key for key, value in asked.as_json().items() if found.get(key) != value]
    return changed or ["checkpoint files or versions"]


def _record(plan: Plan, given: Input, asked: Asked) -> dict[str, Any]:
    return {
        "name": plan.name,
        "identity": run_identity(plan, asked),
        "fingerprint": plan.fingerprint(),
        "fingerprints": plan.fingerprints(),
        "key_columns": plan.key_columns(),
        "revisions": {stage.name: stage.operator.revisions() for stage in plan.stages},
        **asked.as_json(),
        "input_version": asked.version(),
        "base_uri": given.base_uri,
        "recipe": recipe_of(plan),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions that can change bytes."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}
