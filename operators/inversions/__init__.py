"""The inversions of `invert`: one module each, found by its name."""

from typing import Any

from overpaint.operators.diffusion.inverting import Inversion
from overpaint.pipeline.catalogue import Catalogue

INVERSIONS: Catalogue[Any] = Catalogue(__name__, Inversion, "inversion")
