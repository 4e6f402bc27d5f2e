"""Caption: says what a source image shows, by a BLIP-like captioner.

Words are chosen greedily, so equal images have equal captions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from overpaint.operators.models import device
from overpaint.operators.models import pretrained as loading
from overpaint.operators.models import weights as checkpoints
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from PIL import Image
from pydantic import Field

_PART = "caption"


@dataclass(frozen=True, slots=True)
class Captioner:
    """A loaded captioner."""

    processor: Any
    model: Any


class Caption(ModelOperator[Captioner, Image.Image, str]):
    """Describes each source image in words."""

    kind: ClassVar[Kind] = "caption"

    checkpoint: str = checkpoints.PAPERCUT
    """A BLIP-like captioner: "papercut", a local folder, or a hub id."""
    revision: str | None = None
    """The commit, tag or branch of a hub id; null stands for `main`."""
    dtype: device.DtypeName = "float32"
    """The number type of the weights and of all that is computed with them."""
    num_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one model call; the last digit of a sum depends on it."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Images in one model call."""
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

    def check(self) -> None:
        """Looks whether the captioner is there."""
        checkpoints.check("checkpoint", self.checkpoint, _PART, self.revision)

    def revisions(self) -> dict[str, str]:
        """The captioner's weights."""
        return {"checkpoint": checkpoints.identity(self.checkpoint, self.revision, _PART)}

    def load(self) -> Captioner:
        """Loads the captioner."""
        from transformers import AutoModelForImageTextToText

        source = (self.checkpoint, _PART, self.revision)
        return Captioner(
            loading.load_processor(*source),
            loading.load_model(AutoModelForImageTextToText, *source, self.dtype),
        )

    def prepare(self, row: Row, model: Captioner) -> Image.Image:
        """Returns the source as the captioner is shown it."""
        del model
        return decode(row["source_image"]).small_image()

    def infer(self, inputs: Sequence[Image.Image], model: Captioner) -> list[str]:
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

    def answer(self, row: Row, image: Image.Image, caption: str, model: Captioner) -> NewColumns:
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
