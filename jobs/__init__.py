"""Commands and calls that a user starts.

`run` is loaded when it is first used: the command line starts without what it needs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overpaint.jobs.runs.run import RunResult, run

__all__ = ["RunResult", "run"]


def __getattr__(name: str) -> Any:
    """Loads the call or the class of that name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("overpaint.jobs.runs.run"), name)
