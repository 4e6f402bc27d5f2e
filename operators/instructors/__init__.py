"""The instructors of `instruct`: one module each, found by its name."""

from typing import Any

from overpaint.operators.models.instructor import Reader
from overpaint.pipeline.catalogue import Catalogue

INSTRUCTORS: Catalogue[Any] = Catalogue(__name__, Reader, "instructor")
