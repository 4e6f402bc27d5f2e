"""The dialects of servers that edit pictures: one module each, found by its name."""

from typing import Any

from overpaint.operators.models.image_edits import Dialect
from overpaint.pipeline.catalogue import Catalogue

DIALECTS: Catalogue[Any] = Catalogue(__name__, Dialect, "dialect")


def find_dialect(name: str) -> Dialect:
    """Returns the dialect of a name, such as `openai` or `vllm-omni`.

    Raises:
        UsageError: there is no such dialect.
    """
    return DIALECTS.find(name if ":" in name else name.replace("-", "_"))()
