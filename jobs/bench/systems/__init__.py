"""The systems of `bench busy`: one module each, found by its name."""

from collections.abc import Sequence

from overpaint.jobs.bench.busy_system import System
from overpaint.pipeline.catalogue import Catalogue
from overpaint.pipeline.errors import UsageError

SYSTEMS: Catalogue[System] = Catalogue(__name__, System, "system")
"""What a user would take for such work."""


def find_systems(names: Sequence[str]) -> dict[str, System]:
    """Returns systems by name, all of which can run here.

    Args:
        names: names of systems; where it is empty, all that can run here are taken.

    Raises:
        UsageError: there is no such system, or what it needs is not installed.
    """
    systems = {name: SYSTEMS.find(name)() for name in names or SYSTEMS.names()}
    missing = {name: hint for name, system in systems.items() if (hint := system.missing())}
    if names and missing:
        raise UsageError("; ".join(f"--system {name}: {hint}" for name, hint in missing.items()))
    return {name: system for name, system in systems.items() if name not in missing}
