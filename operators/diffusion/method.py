"""An editing method: a frozen value that edits a batch of unrelated rows.

Each module of `operators/methods` holds one. A method declares its fields, the columns and
conditions that it needs, its checkpoints and its branches; importing it does not import torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window, steps_in, walked_steps
from overpaint.operators.framing.frame import UNET_SHAPES, FitMode, Shapes
from overpaint.operators.models.adapters import check_kinds
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.conditions import Condition
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.operator import End
from overpaint.pipeline.variant import Variant
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.batch import Batch, Sampling
    from overpaint.operators.diffusion.inversion import Inverted
    from torch import Tensor

TEXT_TO_IMAGE = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines whose checkpoints draw what a prompt says."""
Edited = NDArray[np.float32] | End
"""Picture of a frame's size, RGB HWC, about 0-255; or why a server has made none."""
EXAMPLE_STEPS = 25
"""Steps of an inversion for which costs are shown where none is given."""


class Editor(Protocol):
    """A loaded model of a method."""

    @property
    def identity(self) -> str:
        """Revision or digest of the exact weights."""
        ...

    @property
    def resolution_px(self) -> int:
        """Side of the square pictures that it was trained on."""
        ...

    @property
    def multiple_px(self) -> int:
        """Number that the sides of a picture are multiples of."""
        ...

    @property
    def spent(self) -> Cost:
        """Network evaluations so far, over all rows."""
        ...

    @property
    def oom_fallbacks(self) -> tuple[str, ...]:
        """Ways in which memory was freed that can change the last digit."""
        ...


class Method(Variant, ABC):
    """A way of editing."""

    family: ClassVar[str]
    """Mechanism of the survey that it belongs to, F01 to F18."""
    edit_types: ClassVar[tuple[str, ...]] = ()
    """Edit types that it is good at."""
    checkpoints: ClassVar[tuple[str, ...]] = TEXT_TO_IMAGE
    """Diffusers pipelines whose checkpoints it takes."""
    papercut: ClassVar[str | None] = "text_to_image"
    """Papercut checkpoint that it runs on; None where there is none."""
    prompt: ClassVar[Column | None] = c.TARGET_PROMPT
    """Column that says what to make; None where conditions of the row say it."""
    needs: ClassVar[tuple[Column | Condition, ...]] = ()
    """Further columns and conditions, without which a row cannot be edited."""
    uses: ClassVar[tuple[Column | Condition, ...]] = ()
    """Columns and conditions that it uses where a row has them."""
    reads_seed: ClassVar[bool] = True
    """Whether it draws noise from the row's seed."""
    is_hosted: ClassVar[bool] = False
    """Whether a server edits: each row by a request of its own, beside the actor's models."""
    takes_adapters: ClassVar[tuple[str, ...]] = ("lora",)
    """Kinds of adapters that are added to its checkpoint."""
    shapes: ClassVar[Shapes] = UNET_SHAPES
    """Shapes of the picture that its model sees."""

    @property
    def framed(self) -> "Framed":
        """The fields that choose what the model sees; the usual ones where it has none."""
        return self if isinstance(self, Framed) else Framed()

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs, costs, papers and checkpoints of the method."""
        prompt = () if cls.prompt is None else (cls.prompt,)
        needs = [need.name for need in (*prompt, *cls.needs)]
        return {
            "needs": ", ".join(needs),
            "evaluations": _default_cost(cls),
            **super().facts(),
            "family": cls.family,
            "edit types": ", ".join(cls.edit_types),
            "checkpoints": ", ".join(cls.checkpoints),
        }

    @property
    def picture_shapes(self) -> Shapes:
        """The shapes of the picture that its model sees, with its fields as they are."""
        return self.shapes

    @property
    def num_pictures(self) -> int:
        """The pictures that the sequence of a transformer holds, with its fields as they are."""
        return 1

    @property
    def needed(self) -> tuple[Column | Condition, ...]:
        """The columns and conditions that it needs with its fields as they are."""
        return self.needs

    @property
    def used(self) -> tuple[Column | Condition, ...]:
        """The columns and conditions that it uses with its fields as they are."""
        return self.uses

    def for_checkpoint(self, checkpoint: str) -> Self:
        """Returns the method with the values that a checkpoint's folder has for its fields.

        Args:
            checkpoint: name of the checkpoint; one that has no folder changes nothing.
        """
        del checkpoint
        return self

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks, before anything is started, that weights are there and can do the work.

        Raises:
            ValueError: they are not, or are of a kind that the method does not take.
        """
        check_kinds(checkpoint.adapters, self.takes_adapters, f"a {type(self).__name__}")
        checkpoint.check(self.checkpoints)

    def weights_identity(self, checkpoint: Checkpoint) -> str:
        """Returns the exact weights of its checkpoint: a revision, or a digest of files."""
        return checkpoint.identity()

    def notes(self, model: Any) -> Mapping[str, Any]:
        """Returns what a loaded model has found out, see `Operator.notes`."""
        del model
        return {}

    def check_batch(self, batch_size: int) -> None:
        """Checks, before anything is started, that rows may share a call of that many.

        Raises:
            ValueError: they may not.
        """
        del batch_size

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights of models that the method has beside its checkpoint."""
        return {}

    @abstractmethod
    def load(self, checkpoint: Checkpoint) -> Editor:
        """Loads a model, or returns the one that is loaded."""

    @abstractmethod
    def free_memory(self, model: Any, *, exact: bool) -> str | None:
        """Makes a loaded model need less memory, see `Operator.free_memory`."""

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the texts that the text encoder reads for a row, by their column or field."""
        inverted = inverted_source(self, row)
        source = {} if inverted is None else {c.SOURCE_PROMPT.name: inverted.prompt}
        if self.prompt is None or (own := first_text(row, self.prompt)) is None:
            return source
        return {**source, self.prompt.name: own}

    def text_length(self, text: str, model: Any) -> TextLength | None:
        """Returns the length of a text for the model's text encoder; None where it is not known."""
        del text, model
        return None

    @abstractmethod
    def cost(self, num_inference_steps: int) -> Cost:
        """Returns the network evaluations for one row.

        Args:
            num_inference_steps: its own, or those of the inversion that it needs.
        """

    def row_cost(self, row: Row, num_inference_steps: int) -> Cost:
        """Returns the network evaluations for a row whose conditions have a part in them."""
        del row
        return self.cost(num_inference_steps)

    @abstractmethod
    def edit(self, requests: Sequence[EditRequest], model: Any) -> Sequence[Edited]:
        """Edits a full batch of rows of one size.

        Args:
            requests: rows with frames of one size; where a server edits, of any, and not padded.
            model: as `load` returned it.

        Returns:
            Pictures of the frames' size: RGB float32 HWC, about 0-255; NaN where the model failed.
        """


class Framed(Variant):
    """Fields of a method, or an inversion, that chooses what the model sees of a source."""

    num_inference_steps: int = Field(default=30, ge=1, le=1000)
    """Denoising steps from noise to picture."""
    fit: FitMode = "whole"
    """`whole` shows the model the whole image, `crop` a square around the mask."""
    crop_margin: float = Field(default=0.25, ge=0.125, le=8)
    """Context around the mask on each side, as a share of the masked box's longer side."""
    resolution: int = Field(default=0, ge=0, le=8192)
    """Side in pixels of the square that the model sees; 0 is the checkpoint's own."""


class LatentMethod(Method):
    """A method on latent diffusion models with a UNet: Stable Diffusion, SDXL and their kin."""

    takes_adapters = ("lora", "textual_inversion", "controlnet", "ip_adapter")

    def branches(self) -> Mapping[str, Window]:
        """Returns the UNet's branches, and the part of the walked steps in which each runs.

        `text` reads the target prompt, `negative` the negative one and `source` the source prompt,
        unless `sampling` says otherwise. Costs are counted from this declaration.
        """
        return {"text": ALL_STEPS}

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks that the method is whole, then its weights.

        Raises:
            ValueError: it has neither `sampling` nor `edited`, or the weights do not suit.
        """
        kind = type(self)
        if kind.sampling is LatentMethod.sampling and kind.edited is LatentMethod.edited:
            raise ValueError(f"method {kind.__name__} has neither `sampling` nor `edited`")
        super().check_weights(checkpoint)

    def sampling(self, batch: "Batch") -> "Sampling":
        """Returns the start of the run and everything that steers it.

        Every method has this, or `edited` where it has a loop of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has a loop of its own")

    def complete(self, sampling: "Sampling") -> "Sampling":
        """Returns a sampling with what a base class brings, such as classifier-free guidance."""
        return sampling

    def walked(self, num_inference_steps: int) -> range:
        """Returns the indices of the walked steps, by the field `strength` where there is one."""
        return walked_steps(getattr(self, "strength", 1.0), num_inference_steps)

    def load(self, checkpoint: Checkpoint) -> Editor:
        """Loads the model, shared with every operator of the actor that uses the checkpoint."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(checkpoint)

    def free_memory(self, model: Any, *, exact: bool) -> str | None:
        """Offloads the model's parts, or slices its VAE."""
        from overpaint.operators.diffusion.latent_model import free_memory

        return free_memory(model, exact=exact)

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the row's prompts, and the negative prompt where there is guidance by it."""
        negative: str = (
            getattr(self, "negative_prompt", "") if "negative" in self.branches() else ""
        )
        return {**super().prompts(row), **({"negative_prompt": negative} if negative else {})}

    def text_length(self, text: str, model: Any) -> TextLength | None:
        """Returns the length of a text for the text encoder that cuts most of it."""
        return model.text_length(text)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the steps of all branches, the prompts, and the VAE's part."""
        walked = self.walked(num_inference_steps)
        running = {n: len(steps_in(window, walked)) for n, window in self.branches().items()}
        prompts = [name for name in ("text", "source") if running.get(name)]
        return Cost(
            forward=sum(running.values()),
            vae_encode=0 if needs_inversion(self) else 1,
            vae_decode=1,
            text=len(prompts),
        )

    def edit(self, requests: Sequence[EditRequest], model: Any) -> list[NDArray[np.float32]]:
        """Edits the batch as `edited` says, and decodes it."""
        from overpaint.operators.diffusion.batch import Batch

        steps = getattr(self, "num_inference_steps", None)
        batch = Batch(requests, model, num_inference_steps=steps, walked=self.walked)
        return batch.decode(self.edited(batch))

    def edited(self, batch: "Batch") -> "Tensor":
        """Returns the clean latents bchw of the edits: those of the run that `sampling` steers."""
        return batch.run(self.branches(), self.complete(self.sampling(batch)))


def _default_cost(kind: type[Method]) -> str:
    """Returns the evaluations for one row with the default fields."""
    if any(field.is_required() for field in kind.model_fields.values()):
        return ""
    method = kind()
    steps = getattr(method, "num_inference_steps", None)
    note = "" if steps is not None else f" of {EXAMPLE_STEPS} inverted steps"
    return f"{method.cost(steps or EXAMPLE_STEPS)}{note}"


def needs_inversion(method: Method | type[Method]) -> bool:
    """Tells whether a method reads a column that an inversion leaves in its actor."""
    return any(isinstance(need, Column) and need.scope == "group" for need in method.needs)


def inverted_source(method: Method, row: Row) -> "Inverted | None":
    """Returns what an inversion has left of a row; None for a method that reads no such column."""
    columns = [need for need in method.needs if isinstance(need, Column)]
    return next((row[column.name] for column in columns if column.scope == "group"), None)
