"""Record of a run (`recipe.json`): what was asked for, and all that decides its bytes."""

import json
import platform
from importlib.metadata import version
from typing import Any

from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import KEYS_VERSION, digest
from overpaint.pipeline.images import codec_versions
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.runs.folder import RECIPE, RunFolder
from overpaint.pipeline.runs.inputs import Input, InputRequest
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.storage.checks import first_contact
from pydantic import BaseModel, ConfigDict

_PACKAGES = ("overpaint", "ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "numpy")
_HISTORY = {"identity", "fingerprint", "fingerprints", "recipe", "versions"}


class RunRecord(BaseModel):
    """Contents of a run's `recipe.json`.

    Fields that were added later have defaults, so that the runs of earlier versions stay readable.

    Example:
        >>> record = RunRecord.read(RunFolder(Storage("demo-run")))
        >>> record.name, record.versions["torch"]
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    name: str
    """Name of the recipe, for people."""
    identity: str = ""
    """Digest of everything that decides what the run folder will hold."""
    fingerprint: str = ""
    """Fingerprint of the stages that decide the pixels."""
    fingerprints: dict[str, str] = {}
    """Fingerprint of each stage, by its name."""
    key_columns: tuple[str, ...] = ()
    """Input columns that decide the pixels, beside `source_uri`."""
    revisions: dict[str, dict[str, str]] = {}
    """Exact weights behind each checkpoint, by stage and field."""
    input: str = ""
    """URI of the input."""
    limit: int | None = None
    """Rows taken from the front of the input; null for all."""
    mapping: dict[str, str] = {}
    """New names of input columns, by their names in the table."""
    base: str | None = None
    """URI that the user gave for relative sources; null where the input decides."""
    keep: tuple[str, ...] = ()
    """Input columns of bytes that are carried along."""
    input_version: str | None = None
    """Word that changes with the content of the input's table; null for a folder of images."""
    input_sha256: str | None = None
    """Hash of the input's table, which a table that was only touched keeps; null on a store."""
    is_sharded: bool = False
    """Whether the input's table is in several files of a folder."""
    base_uri: str
    """URI that relative sources are relative to."""
    keys_version: int = 1
    """Way in which keys of rows are made, see `identity.KEYS_VERSION`."""
    recipe: dict[str, Any]
    """Resolved recipe: every stage, with every field."""
    versions: dict[str, str] = {}
    """Versions that can change bytes, by package."""
    earlier: tuple[dict[str, Any], ...] = ()
    """Recipes and versions that the run had before it was updated, oldest first."""

    @classmethod
    def of(
        cls, plan: Plan, request: InputRequest, base_uri: str, *, is_sharded: bool = False
    ) -> "RunRecord":
        """Describes a run of a plan over an input, with the versions of this process.

        Args:
            plan: plan of the run.
            request: input as the user asked for it.
            base_uri: URI that relative sources are relative to.
            is_sharded: whether the input's table is in several files of a folder.
        """
        return cls(
            name=plan.name,
            identity=_identity(plan, request),
            fingerprint=plan.fingerprint(),
            fingerprints=plan.fingerprints(),
            key_columns=plan.key_columns(),
            revisions={stage.name: stage.operator.revisions() for stage in plan.stages},
            **request.as_json(),
            input_version=request.version(is_sharded=is_sharded),
            is_sharded=is_sharded,
            base_uri=base_uri,
            keys_version=KEYS_VERSION,
            recipe=recipe_of(plan),
            versions=current_versions(),
        )

    @classmethod
    def planned(cls, plan: Plan, request: InputRequest, run_input: Input) -> "RunRecord":
        """Describes a run that is planned now, with the hash of its input's table.

        Args:
            plan: plan of the run.
            request: input as the user asked for it.
            run_input: input as it was read.
        """
        record = cls.of(plan, request, run_input.base_uri, is_sharded=run_input.is_sharded)
        sha256 = request.sha256(is_sharded=run_input.is_sharded)
        return record.model_copy(update={"input_sha256": sha256})

    @classmethod
    def find(cls, folder: RunFolder) -> "RunRecord | None":
        """Reads the record in a folder; returns None where the folder holds no run.

        Raises:
            UsageError: `recipe.json` is not a run's record, or the store cannot serve the folder.
        """
        with first_contact(folder.storage.uri):
            try:
                data = folder.storage.read(RECIPE)
            except (FileNotFoundError, IsADirectoryError):
                return None
        try:
            return cls.model_validate(json.loads(data))
        except ValueError as error:
            reason = str(error).split("\n", 1)[0]
            raise UsageError(
                f"{folder.storage.at(RECIPE)}: not the record of a run: {reason}"
            ) from error

    @classmethod
    def read(cls, folder: RunFolder) -> "RunRecord":
        """Reads the record of a run.

        Raises:
            UsageError: the folder holds no run, or `recipe.json` is not a run's record.
        """
        record = cls.find(folder)
        if record is None:
            raise UsageError(f"{folder.storage.uri}: no run there (no {RECIPE})")
        return record

    def write(self, folder: RunFolder) -> None:
        """Writes the record into a run folder, in one step."""
        folder.write_json(RECIPE, self.model_dump(mode="json"))

    @property
    def image_format(self) -> str:
        """The format of edited images: png, jpg or webp."""
        return self.recipe["output"]["format"]

    @property
    def request(self) -> InputRequest:
        """The input as the user asked for it."""
        return InputRequest(self.input, self.limit, self.mapping, self.base, self.keep)

    def plan(self, folder: RunFolder) -> Plan:
        """Returns the plan that the recorded recipe describes.

        Args:
            folder: folder of the run, named in errors.

        Raises:
            UsageError: this version of Overpaint does not read the recipe.
        """
        self.check_keys(folder)
        return plan_from_tables(self.recipe, folder.storage.at(RECIPE))

    def check_keys(self, folder: RunFolder) -> None:
        """Checks that rows of the run have the keys that this version would give them.

        Raises:
            UsageError: an earlier version made the run, and its keys in another way.
        """
        if self.keys_version != KEYS_VERSION:
            version_then = self.versions.get("overpaint", "an earlier version")
            raise UsageError(
                f"{folder.storage.uri}: made by Overpaint {version_then}, which made the keys of "
                "rows, and so seeds and file names, in another way. This version shows and "
                "verifies that run and takes it as an input; to go on with it or to update it, "
                "use the version that made it, or choose another --output"
            )

    def differences(self, other: "RunRecord") -> list[str]:
        """Names what makes `other` a different run: options, or the content of the input."""
        if self.identity != other.identity:
            names = [name for name in other.recipe if other.recipe[name] != self.recipe.get(name)]
            theirs, ours = other.request.as_json(), self.request.as_json()
            both = {**theirs, **ours}
            names += [name for name in both if theirs.get(name) != ours.get(name)]
            return names or ["checkpoint files or versions"]
        return ["the input's content"] if self._has_other_content(other) else []

    def _has_other_content(self, other: "RunRecord") -> bool:
        if self.input_version == other.input_version:
            return False
        # A file that was touched or copied has another version and the same bytes.
        sha256 = self.input_sha256
        return sha256 is None or sha256 != other.request.sha256(is_sharded=other.is_sharded)

    def version_differences(self) -> list[str]:
        """Names every version of this process that is not the recorded one."""
        then = self.versions
        return [
            f"{name} {then.get(name)} then, {now} now"
            for name, now in current_versions().items()
            if now != then.get(name)
        ]

    def with_policy(self, policy: Policy) -> "RunRecord":
        """Returns the record with another policy in its recipe; the identity stays."""
        bounds = policy.model_dump(mode="json", exclude_none=True)
        return self.model_copy(update={"recipe": {**self.recipe, "policy": bounds}})

    def superseding(self, previous: "RunRecord") -> "RunRecord":
        """Returns the record with a previous version of the run added to its history."""
        entry = previous.model_dump(mode="json", include=_HISTORY)
        return self.model_copy(update={"earlier": (*previous.earlier, entry)})


def existing_run(folder: RunFolder) -> Run:
    """Returns the run that a folder holds.

    Raises:
        UsageError: the folder holds no run, or this version of Overpaint does not read it.
    """
    record = RunRecord.read(folder)
    return Run(record.plan(folder), folder.storage.uri, record.base_uri)


def _identity(plan: Plan, request: InputRequest) -> str:
    return digest(
        {
            "stages": list(plan.fingerprints().items()),
            "row": plan.row,
            "policy": plan.policy.model_dump(mode="json"),
            "image_format": plan.image_format,
            **({"images": plan.images} if plan.is_packed else {}),
            **request.as_json(),
        }
    )


def current_versions() -> dict[str, str]:
    """Returns the versions in this process that can change bytes, by package and codec."""
    packages = {name: version(name) for name in _PACKAGES}
    here = {"python": platform.python_version(), "machine": platform.machine()}
    return {**here, **packages, **codec_versions()}
