"""The proposers of `propose`: one module each, found by its name."""

from typing import Any

from overpaint.operators.models.proposer import WritesInstructions
from overpaint.pipeline.catalogue import Catalogue

PROPOSERS: Catalogue[Any] = Catalogue(__name__, WritesInstructions, "proposer")
