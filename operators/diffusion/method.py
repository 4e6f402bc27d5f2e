"""What an editing method is: one module in `operators/methods` that ends with its `METHOD`.

None of them imports torch before it is loaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.inversion import Inversion
from overpaint.operators.framing.frame import UNET_SHAPES, Shapes
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.pipeline.columns import TARGET_PROMPT, Column
from overpaint.pipeline.images import Pixels

TEXT_TO_IMAGE = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines whose checkpoints draw what a prompt says."""


class Editor(Protocol):
    """What a method's `load` returns."""

    @property
    def identity(self) -> str:
        """The exact weights."""
        ...

    @property
    def resolution_px(self) -> int:
        """The side of the square that they were trained on."""
        ...

    @property
    def multiple_px(self) -> int:
        """Sides of a picture are multiples of this."""
        ...

    @property
    def relieved(self) -> tuple[str, ...]:
        """What was done for lack of memory that can change the last digit."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One row, as a method sees it.

    Attributes:
        picture: what the model sees of the source, RGB uint8 HWC.
        mask: float32 HW, 0-1, of the picture's size: what may change; None for everything.
        prompt: the target prompt or the instruction, whichever the method reads.
        seed: of the row's generator.
        inversion: the source's path to noise, for a method that reads it.
    """

    picture: Pixels
    mask: NDArray[np.float32] | None
    prompt: str
    seed: int
    inversion: Inversion | None


def relieve_latent_model(model: Any, exact: bool) -> str | None:
    """What models of the Stable Diffusion shape do when their device runs out of memory."""
    from overpaint.operators.diffusion.latent_model import relieve

    return relieve(model, exact=exact)


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A way of editing.

    Attributes:
        name: of its module.
        summary: what it does, in one sentence.
        papers: arXiv numbers of what it is made from.
        family: of the survey's mechanisms, F01 to F18.
        part: the papercut checkpoint that it runs on.
        classes: the diffusers pipelines whose checkpoints it takes.
        prompt: the column that says what to make.
        is_random: whether it draws noise from the row's seed.
        inputs: further columns that it needs, beside the source image.
        fields: a dataclass: the fields of `edit` that it uses, with its defaults.
        shapes: of the picture that its model sees.
        evaluations: network evaluations for one row, from its fields and the number of steps.
        load: from a checkpoint to a loaded model.
        edit: from a full batch of jobs of one size, the model and the fields to pictures of that
            size: RGB float32 HWC, about 0-255; NaN where the model failed.
        relieve: makes a loaded model need less memory, exactly or not, as `Operator.relieve` says.
    """

    name: str
    summary: str
    papers: tuple[str, ...]
    family: str
    part: str = "text_to_image"
    classes: tuple[str, ...]
    prompt: Column = TARGET_PROMPT
    is_random: bool = True
    inputs: tuple[Column, ...] = ()
    fields: type[Any]
    shapes: Shapes = UNET_SHAPES
    evaluations: Callable[[Any, int], int]
    load: Callable[[Checkpoint], Editor]
    edit: Callable[[Sequence[Job], Any, Any], list[NDArray[np.float32]]]
    relieve: Callable[[Any, bool], str | None] = relieve_latent_model

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields of `edit` that it uses."""
        return tuple(field.name for field in fields(self.fields))
