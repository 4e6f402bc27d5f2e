"""vLLM-Omni's images/edits (vllm-project/vllm-omni, docs/serving/image_edit_api.md).

The row's seed goes into the field `seed`; without one the server draws its own. Noise is drawn on
the CPU, so that it does not depend on the server's device. A mask is white where the edit is to be.
`model` must be the one that the server runs.
"""

from collections.abc import Mapping

from overpaint.operators.models.image_edits import Dialect, ImageEdit, Part, Scalar, white_mask
from overpaint.pipeline.images import Pixels


class VllmOmni(Dialect):
    """vLLM-Omni's images/edits."""

    def fields(self, edit: ImageEdit) -> Mapping[str, Scalar]:
        """Returns size, seed and settings; the answer is asked for as a PNG in base64."""
        return {
            "n": 1,
            "size": edit.size_text,
            "response_format": "b64_json",
            "output_format": "png",
            "seed": edit.seed,
            "generator_device": "cpu",
            **edit.settings(),
        }

    def mask(self, mask: Pixels) -> Part:
        """Returns a PNG that is white where the edit is to be."""
        return Part("mask_image", white_mask(mask), "mask.png")
