"""The fits of `fit`: one module each, found by its name."""

from typing import Any

from overpaint.operators.diffusion.fitting import Fit
from overpaint.pipeline.catalogue import Catalogue

FITS: Catalogue[Any] = Catalogue(__name__, Fit, "fit")
