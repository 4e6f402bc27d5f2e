"""The mask finders of `mask`: one module each, found by its name."""

from typing import Any

from overpaint.operators.models.finder import Finder
from overpaint.pipeline.catalogue import Catalogue

FINDERS: Catalogue[Any] = Catalogue(__name__, Finder, "finder")
