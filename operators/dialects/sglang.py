"""SGLang's diffusion server, images/edits (sgl-project/sglang, python/sglang/multimodal_gen).

The row's seed goes into the field `seed`. Noise is drawn on the CPU: the server's own choice is the
GPU, where it depends on the device. Its cache TeaCache is turned off, since it decides from other
steps. The form takes a `mask` as OpenAI's does, but the server hands it to no model: the edit is
kept to the mask by `paste_back` alone.
"""

from collections.abc import Mapping

from overpaint.operators.models.image_edits import Dialect, ImageEdit, Part, Scalar, alpha_mask
from overpaint.pipeline.images import Pixels


class SGLang(Dialect):
    """SGLang's images/edits."""

    def fields(self, edit: ImageEdit) -> Mapping[str, Scalar]:
        """Returns size, seed and settings; the answer is asked for as a PNG in base64."""
        return {
            "n": 1,
            "size": edit.size_text,
            "response_format": "b64_json",
            "output_format": "png",
            "seed": edit.seed,
            "generator_device": "cpu",
            "enable_teacache": False,
            **edit.settings(),
        }

    def mask(self, mask: Pixels) -> Part:
        """Returns a PNG that is transparent where the edit is to be."""
        return Part("mask", alpha_mask(mask), "mask.png")
