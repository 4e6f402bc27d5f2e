"""The conditions that a papercut dataset can have: one module each, found by its name."""

from overpaint.jobs.papercut.condition import DrawnCondition
from overpaint.pipeline.catalogue import Catalogue

CONDITIONS: Catalogue[DrawnCondition] = Catalogue(__name__, DrawnCondition, "condition")
