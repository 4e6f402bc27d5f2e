"""The fits of `fit`: one module each, found by its name."""

from typing import Any

from overpaint.operators.diffusion.fitting import FitMethod
from overpaint.pipeline.catalogue import Catalogue

FITS: Catalogue[Any] = Catalogue(__name__, FitMethod, "fit")
