"""OpenAI's images/edits, and the hosted models and gateways that speak like it.

The form has no seed and no settings of the denoising; `quality`, `input_fidelity`, `background` and
such are given in `request`. A mask is transparent where the edit is to be, and holds for the first
picture. GPT image models always answer in base64 and refuse a `response_format`, so none is sent;
for one that answers with URLs give `request = { response_format = "b64_json" }`.
(https://platform.openai.com/docs/api-reference/images/createEdit)
"""

from collections.abc import Mapping

from overpaint.operators.models.image_edits import (
    OPENAI_SHAPES,
    Dialect,
    ImageEdit,
    Part,
    Scalar,
    alpha_mask,
)
from overpaint.pipeline.images import Pixels


class OpenAI(Dialect):
    """OpenAI's images/edits."""

    shapes = OPENAI_SHAPES
    settings = frozenset[str]()

    def fields(self, edit: ImageEdit) -> Mapping[str, Scalar]:
        """Returns the number of pictures and their size."""
        return {"n": 1, "size": edit.size_text}

    def mask(self, mask: Pixels) -> Part:
        """Returns a PNG that is transparent where the edit is to be."""
        return Part("mask", alpha_mask(mask), "mask.png")
