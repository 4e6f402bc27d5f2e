"""Calls of diffusers' transformer editors: one module each, found by its name or by the class."""

from typing import Any

from overpaint.operators.diffusion.pipeline_call import PipelineCall
from overpaint.pipeline.catalogue import Catalogue

PIPELINES: Catalogue[Any] = Catalogue(__name__, PipelineCall, "editor")
GENERIC = "generic"
"""The call of classes that no other call names."""


def editor_of(class_name: str) -> str:
    """Returns the name of the call of a diffusers class."""
    names = (n for n in PIPELINES.names() if class_name in PIPELINES.find(n).classes)
    return next(names, GENERIC)


def known_classes(first: str) -> tuple[str, ...]:
    """Returns the classes that have a call of their own, those of one call first."""
    names = sorted(PIPELINES.names(), key=lambda name: name != first)
    return tuple(kind for name in names for kind in PIPELINES.find(name).classes)
