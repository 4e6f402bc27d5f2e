"""Classify: how surely an image classifier sees a class in each source, and sources turned down.

The model is any image classifier of transformers: of aesthetics, of what is safe to show, of
whatever a data set should or should not hold. Placed before the edit, rows whose source is out of
bounds end there, rejected with a reason, and cost no edit; `reads = { source_image =
"edited_image" }` classifies edits. A policy on the column bounds it later, without a model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from overpaint.operators.models.pretrained import Pretrained, device, quietly, torch_dtype
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError, UsageError, near_miss
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Rejected
from PIL import Image
from pydantic import Field, model_validator

CLASS_SCORE = c.score(
    "class_score", "probability of the class that is looked for, 0 to 1, or the model's figure"
)
CLASS_NAME = Column("class_name", pa.string(), "the class that the classifier finds most likely")


class _Classified(NamedTuple):
    """Classifier's answer for one image.

    Attributes:
        score: figure of the class that is looked for; it may be not finite.
        name: name of the most likely class.
    """

    score: float
    name: str


class Classify(UsesCheckpoint[Pretrained], ModelOperator[Pretrained, Image.Image, _Classified]):
    """Scores each source by an image classifier, and rejects those out of bounds.

    Example:
        >>> Classify(checkpoint="Falconsai/nsfw_image_detection", label="nsfw", max_score=0.5)
    """

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = "classify"

    checkpoint: str = Field()
    """Image classifier of transformers: a local folder, or a hub id."""
    label: str | None = None
    """Class whose probability is the score, as the model names it; null where it has one output,
    such as an aesthetics score, which is then the score as it is."""
    min_score: float | None = Field(default=None, allow_inf_nan=False)
    """Sources of a lower score are rejected; null rejects none."""
    max_score: float | None = Field(default=None, allow_inf_nan=False)
    """Sources of a higher score are rejected; null rejects none."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "Classify":
        lower, upper = self.min_score, self.max_score
        if lower is not None and upper is not None and lower > upper:
            raise ValueError(f"min_score = {lower} is above max_score = {upper}")
        return self

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source."""
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The score and the most likely class."""
        return (CLASS_SCORE, CLASS_NAME)

    def check(self) -> None:
        """Checks that the classifier is there and, in a folder, has the class.

        Raises:
            ValueError: it is not, or has not.
        """
        super().check()
        if not self.weights.is_on_hub:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.weights.path, **self.weights.source_options())
            self._output(config)

    def load(self) -> Pretrained:
        """Loads the classifier.

        Raises:
            UsageError: it does not have the class.
        """
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        weights = self.weights
        with quietly():
            model = AutoModelForImageClassification.from_pretrained(
                weights.path, dtype=torch_dtype(weights.dtype), **weights.weight_options()
            )
            processor = AutoImageProcessor.from_pretrained(
                weights.path, backend="pil", **weights.source_options()
            )
        try:
            self._output(model.config)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return Pretrained(processor, model.eval().to(device()))

    def prepare(self, row: Row, model: Pretrained) -> Image.Image:
        """Returns the source as the classifier is shown it."""
        del model
        return decode(row["source_image"]).small_image()

    def infer(self, inputs: Sequence[Image.Image], model: Pretrained) -> list[_Classified]:
        """Returns the score and the most likely class of each image."""
        import torch

        classifier: Any = model.model
        pixels = model.processor(images=list(inputs), return_tensors="pt")
        pixels = pixels.to(classifier.device, classifier.dtype)
        with torch.inference_mode():
            logits = classifier(**pixels).logits.float()
        scores = _activated(logits, classifier.config)[:, self._output(classifier.config)]
        names = (classifier.config.id2label[int(index)] for index in logits.argmax(dim=1))
        pairs = zip(scores.tolist(), names, strict=True)
        return [_Classified(score, str(name)) for score, name in pairs]

    def answer(
        self, row: Row, image: Image.Image, classified: _Classified, model: Pretrained
    ) -> NewColumns | Rejected:
        """Returns the score; one out of bounds is rejected with `class_score`.

        Raises:
            RowError: `nan_in_result`.
        """
        del row, image, model
        score = classified.score
        if not abs(score) < float("inf"):
            raise RowError("nan_in_result", "the classifier's figure is no number: try float32")
        if reason := self._reason(score):
            return Rejected("class_score", reason)
        return {CLASS_SCORE.name: score, CLASS_NAME.name: classified.name}

    def _reason(self, score: float) -> str | None:
        what = f"class_score of {self.label or 'the source'} is {score:.4f}"
        if self.min_score is not None and score < self.min_score:
            return f"{what}, below min_score = {self.min_score:g}"
        if self.max_score is not None and score > self.max_score:
            return f"{what}, above max_score = {self.max_score:g}"
        return None

    def _output(self, config: Any) -> int:
        """Returns the number of the model's output that is the score.

        Raises:
            ValueError: the model has no such class, or several where none is named.
        """
        names: Mapping[int, str] = config.id2label
        if self.label is None and len(names) > 1:
            raise ValueError(f"label is null, and the classifier has {', '.join(names.values())}")
        found = [number for number, name in names.items() if self.label in (None, name)]
        if not found:
            hint = near_miss(str(self.label), names.values())
            raise ValueError(f"label = {self.label!r}: the classifier has no such class: {hint}")
        return int(found[0])


def _activated(logits: Any, config: Any) -> Any:
    """Returns probabilities, or the figures themselves where the model has one output."""
    if logits.shape[1] == 1:
        return logits
    if config.problem_type == "multi_label_classification":
        return logits.sigmoid()
    return logits.softmax(dim=1)
