"""Caption: says what a source image shows, by a BLIP-like captioner.

Words are chosen greedily, so equal images have equal captions.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from PIL import Image
from pydantic import Field


class Caption(UsesCheckpoint[Pretrained], ModelOperator[Pretrained, Image.Image, str]):
    """Describes each source image in words, by a BLIP-like captioner."""

    kind: ClassVar[Kind] = "caption"
    part: ClassVar[str] = "caption"

    prompt: str = ""
    """How every caption begins, such as "a photo of"; empty lets the model begin."""
    max_new_tokens: int = Field(default=40, ge=1, le=512)
    """The longest caption, in tokens; never more than the model has places for."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source."""
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The caption."""
        return (c.CAPTION,)

    def load(self) -> Pretrained:
        """Loads the captioner."""
        from transformers import AutoModelForImageTextToText

        return Pretrained.load(AutoModelForImageTextToText, self.weights)

    def prepare(self, row: Row, model: Pretrained) -> Image.Image:
        """Returns the source as the captioner is shown it."""
        del model
        return decode(row["source_image"]).small_image()

    def infer(self, inputs: Sequence[Image.Image], model: Pretrained) -> list[str]:
        """Returns a caption of each image."""
        import torch

        # All rows have the same prompt, so there is nothing to pad.
        text = {"text": [self.prompt] * len(inputs)} if self.prompt else {}
        tokens = model.processor(images=list(inputs), return_tensors="pt", **text)
        with torch.inference_mode():
            generated = model.model.generate(
                **tokens.to(model.model.device, model.model.dtype),
                max_new_tokens=self._num_new_tokens(model.model, tokens),
                do_sample=False,
                num_beams=1,
            )
        captions = model.processor.batch_decode(generated, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in captions]

    def answer(self, row: Row, image: Image.Image, caption: str, model: Pretrained) -> NewColumns:
        """Returns the caption."""
        del row, image, model
        return {"caption": caption}

    def _num_new_tokens(self, model: Any, tokens: Any) -> int:
        """Returns no more than the model has places for: BLIP's decoder fails beyond its last."""
        num_places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if num_places is None:
            return self.max_new_tokens
        num_taken = tokens["input_ids"].shape[1] if "input_ids" in tokens else 1
        return max(1, min(self.max_new_tokens, num_places - num_taken))
