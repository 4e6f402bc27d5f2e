"""methods: the editing methods, inversions, mask finders and others that a recipe can name."""

import json
from typing import Any

from cyclopts import App
from overpaint.jobs.commands.output import console
from overpaint.operators.finders import FINDERS
from overpaint.operators.fits import FITS
from overpaint.operators.instructors import INSTRUCTORS
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.methods import METHODS
from overpaint.operators.proposers import PROPOSERS
from overpaint.pipeline.catalogue import Catalogue
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.variant import Variant
from rich.table import Table

CATALOGUES: tuple[Catalogue[Any], ...] = (
    METHODS,
    INVERSIONS,
    FITS,
    FINDERS,
    INSTRUCTORS,
    PROPOSERS,
)
_LISTED = ("needs", "gives", "evaluations", "papers")


def register(app: App) -> None:
    """Adds this command to the app."""
    app.command(methods)


def methods(name: str | None = None) -> int:
    """Lists methods, inversions, fits, finders, instructors and proposers, or shows one of them.

    Args:
        name: Of one of them, or my_package.module:ClassName.
    """
    if name is None:
        _print_all()
        return 0
    for catalogue, kind in _find(name):
        console.print(f"{catalogue.name_of(kind)}: {catalogue.word}. {kind.summary()}")
        for label, value in kind.facts().items():
            if value:
                console.print(f"  {label}: {value}")
        console.print(_fields(kind))
    return 0


def _find(name: str) -> list[tuple[Catalogue[Any], type[Variant]]]:
    """Returns the variants of that name; a method and an inversion may share one."""
    kinds: list[tuple[Catalogue[Any], type[Variant]]] = []
    errors: list[UsageError] = []
    for catalogue in CATALOGUES:
        try:
            kinds.append((catalogue, catalogue.find(name)))
        except UsageError as error:
            errors.append(error)
    if not kinds:
        raise errors[0]
    return kinds


def _print_all() -> None:
    for catalogue in CATALOGUES:
        for name in catalogue.names():
            kind: type[Variant] = catalogue.find(name)
            facts = kind.facts()
            listed = [f"{label} {facts[label]}" for label in _LISTED if facts.get(label)]
            console.print(f"{name} ({catalogue.word}): {'; '.join(listed)}")
            console.print(f"    {kind.summary()}")


def _fields(kind: type[Variant]) -> Table:
    table = Table("field", "default", "meaning", box=None)
    for field, info in kind.model_fields.items():
        default = "required" if info.is_required() else json.dumps(info.default, default=str)
        table.add_row(field, default, " ".join((info.description or "").split()))
    return table
