"""Opening a run: planned into its folder, found there as it was planned, or refused.

A run goes on with the recipe, the input and the versions that it began with; another form of it is
planned only where the user asks for that.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from overpaint.jobs.runs import update as updating
from overpaint.jobs.runs.update import is_under_way, take_over
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.runs.folder import PLANNED, RECIPE, SUCCESS, WORK, RunFolder
from overpaint.pipeline.runs.inputs import Input, input_version, is_image_folder, read_input
from overpaint.pipeline.runs.planning import write_plan
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.storage.uris import normalise

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


def check_output(folder: RunFolder, asked: Asked) -> None:
    """Looks, in seconds and before anything is read, planned or loaded, whether a run may go there.

    Raises:
        UsageError: the credentials are wrong, the folder holds files that are no run's, or it lies
            in the folder of images that the run would read.
    """
    try:
        found = folder.read_json(RECIPE)
    except PermissionError as error:
        raise UsageError(
            f"{folder.storage.uri}: the output may not be read ({error}): check the credentials"
        ) from error
    if found is None:
        paths = [path for path in folder.storage.list() if not path.startswith(f"{WORK}/")]
        if paths:
            raise UsageError(
                f"{folder.storage.uri}: the output folder holds {len(paths)} files that are not a "
                f"run's, such as {paths[0]}; choose an empty one"
            )
    given_uri = normalise(asked.input_uri)
    if f"{folder.storage.uri}/".startswith(f"{given_uri}/") and is_image_folder(given_uri):
        raise UsageError(
            f"{folder.storage.uri}: the output lies in the input, {given_uri}, whose images would "
            "then be joined by the run's own; choose another"
        )


def open_run(
    plan: Plan, asked: Asked, folder: RunFolder, read: Callable[[], Input], *, update: bool = False
) -> Run:
    """Plans a run into its folder, or finds it planned; the caller holds its lease.

    Args:
        plan: checked.
        asked: which input, for the record.
        folder: of the run, found fit for it by `check_output`.
        read: reads the input and checks that it fits the plan; called only where the run is not
            planned yet, or is planned anew.
        update: whether a run of another recipe, input or version is planned anew, keeping what
            still holds; else it is refused.

    Raises:
        UsageError: the folder holds another run.
    """
    if is_under_way(folder):
        take_over(folder)
    found = folder.read_json(RECIPE)
    if found is None or not is_planned(folder):
        return _planned(plan, asked, folder, read(), found)
    if update:
        given = read()
        updating.update(folder, plan, given, _record(plan, given, asked), found)
        return Run(plan, folder.storage.uri, given.base_uri)
    _refuse_changes(folder, found, plan, asked)
    # `accept` may have given the run another policy since.
    policy = Policy.model_validate(found["recipe"]["policy"])
    as_accepted = plan.model_copy(update={"policy": policy})
    return Run(as_accepted, folder.storage.uri, found["base_uri"])


def _planned(
    plan: Plan, asked: Asked, folder: RunFolder, given: Input, found: dict[str, Any] | None
) -> Run:
    """Plans a run that never was, or whose planning was cut short or has been taken back."""
    if found is not None and folder.parts("manifest"):
        _refuse_changes(folder, found, plan, asked)
    folder.write_json(RECIPE, _record(plan, given, asked))
    counts = write_plan(plan, given, folder)
    folder.write_json(PLANNED, {"planned": counts.num_rows, "duplicates": counts.num_duplicates})
    return Run(plan, folder.storage.uri, given.base_uri)


def is_planned(folder: RunFolder) -> bool:
    """Whether all rows of a run have been written down."""
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


def refuse_other_versions(run: Run) -> None:
    """Rows that are done again would have other bytes than those beside them.

    Raises:
        UsageError: a library, or a checkpoint's folder, is not the one that the run was made with.
    """
    found: dict[str, Any] = run.folder.read_json(RECIPE) or {}
    changed = _other_versions(found)
    if found.get("fingerprint") != run.plan.fingerprint():
        changed.append("checkpoint files")
    if changed:
        raise UsageError(
            f"{run.run_uri}: the run was made with others ({', '.join(changed)}); the run's own "
            "command with --update plans it anew, and keeps every edit and score that still holds"
        )


def _other_versions(found: dict[str, Any]) -> list[str]:
    now, then = versions(), found.get("versions", {})
    return [f"{k} {then.get(k)} then, {now[k]} now" for k in now if now[k] != then.get(k)]


def _refuse_changes(folder: RunFolder, found: dict[str, Any], plan: Plan, asked: Asked) -> None:
    """A run goes on with the recipe, the input and the versions that it began with."""
    if found.get("identity") != run_identity(plan, asked):
        changed = _changes(found, plan, asked)
    elif found.get("input_version") != asked.version():
        changed = ["the input's content"]
    elif folder.read_json(SUCCESS) is None:
        changed = _other_versions(found)
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
