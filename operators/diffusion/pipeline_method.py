"""Methods that run through a diffusers pipeline of their own: transformer editors."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Framed, Method
from overpaint.operators.diffusion.pipeline_call import CallSettings, PipelineCall
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import EXACT, Acceleration
from overpaint.operators.framing.frame import Shapes
from overpaint.operators.models.quantization import WHOLE, Quantized
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.columns import Row
from overpaint.pipeline.conditions import REFERENCES
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel


class PipelineMethod(Method, Framed):
    """A method whose checkpoint is one diffusers pipeline, which edits a whole picture."""

    papercut = None

    @property
    @abstractmethod
    def call(self) -> PipelineCall:
        """The way of calling the pipeline."""

    @abstractmethod
    def call_settings(self, num_inference_steps: int) -> CallSettings:
        """Returns the numbers and words of its calls."""

    @property
    def acceleration(self) -> Acceleration:
        """The ways in which the transformer is made faster or smaller."""
        return EXACT

    @property
    def quantized(self) -> Quantized:
        """The quantised weights."""
        return WHOLE

    @property
    def picture_shapes(self) -> Shapes:
        """The shapes that the editor was trained on."""
        return self.call.shapes

    @property
    def num_pictures(self) -> int:
        """The pictures that the transformer's sequence holds without references."""
        return self.call.num_pictures

    def load(self, checkpoint: Checkpoint) -> "PipelineModel":
        """Loads the pipeline on its device."""
        from overpaint.operators.diffusion.pipeline_model import PipelineUse, load_pipeline

        call = self.call
        use = PipelineUse(
            kinds=call.classes,
            same_parts=call.same_parts,
            resolution_px=call.shapes.base,
            multiple_px=call.multiple_px,
            acceleration=self.acceleration,
            quantized=self.quantized,
        )
        model = load_pipeline(checkpoint, use)
        call.check(model.pipeline)
        return model

    def free_memory(self, model: "PipelineModel", *, exact: bool) -> str | None:
        """Offloads the pipeline's parts; where bytes may change, slices its VAE."""
        return model.free_memory(exact=exact)

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns the length of a text for the text encoder that carries it."""
        return self.call.text_length(text, model)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the evaluations of a row without references."""
        return self.call.cost(self.call_settings(num_inference_steps), 0)

    def row_cost(self, row: Row, num_inference_steps: int) -> Cost:
        """Counts the evaluations of a row with its references."""
        given = row.get(REFERENCES.input.name) or row.get(REFERENCES.column.name) or ()
        most = self.call.max_references
        number = len(given) if most is None else min(most, len(given))
        return self.call.cost(self.call_settings(num_inference_steps), number)

    def edit(
        self, requests: Sequence[EditRequest], model: "PipelineModel"
    ) -> list[NDArray[np.float32]]:
        """Runs the pipeline, and returns its images as pictures."""
        steps = self.num_inference_steps
        return self.call.run(requests, self.call_settings(steps), model)
