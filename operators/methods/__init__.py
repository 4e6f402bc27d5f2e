"""The editing methods of `edit`: one module each, found by its name."""

from typing import Any

from overpaint.operators.diffusion.method import Method
from overpaint.pipeline.catalogue import Catalogue

METHODS: Catalogue[Any] = Catalogue(__name__, Method, "method")
