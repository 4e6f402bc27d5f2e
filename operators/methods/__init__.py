"""The editing methods of `edit`: one module each, found by its name."""

import importlib
import pkgutil
from functools import lru_cache

from overpaint.operators.diffusion.method import Method
from overpaint.pipeline.errors import near_miss


def method_names() -> tuple[str, ...]:
    """Every method, in alphabetical order."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__)))


@lru_cache
def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in method_names():
        raise ValueError(f"method = {name!r} is unknown: {near_miss(name, method_names())}")
    return importlib.import_module(f"{__name__}.{name}").METHOD
