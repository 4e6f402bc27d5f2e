"""The formats of exports: one module each, found by its name.

A format with several layouts has a module for each: `preference_dpo` is `preference` as `dpo`.
"""

from collections.abc import Mapping

from overpaint.jobs.export.format import Format
from overpaint.pipeline.catalogue import Catalogue
from overpaint.pipeline.errors import UsageError, near_miss

FORMATS: Catalogue[Format] = Catalogue(__name__, Format, "format")


def layouts() -> Mapping[str, list[str]]:
    """Returns the layouts of each format, by its name; the only one of a format may be unnamed.

    Example:
        >>> layouts()["preference"]
        ['dpo', 'editreward', 'longcat', 'verl']
    """
    found: dict[str, list[str]] = {}
    for module in FORMATS.names():
        name, _, like = module.partition("_")
        found.setdefault(name, []).append(like.replace("_", "-"))
    return found


def find_format(name: str, like: str | None = None) -> type[Format]:
    """Returns a format.

    Args:
        name: name of a format, or `my_package.module:ClassName`.
        like: whose layout of the format; None for that without a name.

    Raises:
        UsageError: there is no such format or layout, or the format asks for a layout's name.
    """
    if ":" in name:
        if like is not None:
            raise UsageError(f"--like {like}: does not belong to --format {name}")
        return FORMATS.find(name)
    known = layouts()
    if name not in known:
        raise UsageError(f"--format {name!r}: there is none: {near_miss(name, known)}")
    named = [layout for layout in known[name] if layout]
    if like is None and "" not in known[name]:
        raise UsageError(f"--format {name}: say whose with --like: {', '.join(named)}")
    if like is not None and like not in named:
        if not named:
            raise UsageError(f"--like {like}: does not belong to --format {name}")
        raise UsageError(f"--format {name} --like {like!r}: {near_miss(like, named)}")
    return FORMATS.find(f"{name}_{like.replace('-', '_')}" if like else name)
